FROM sms-optout-stand-in:debian
RUN apt-get update -qq && apt-get install -qq -y --no-install-recommends python3-pip python3-venv && rm -rf /var/lib/apt/lists/* \
 && ln -s python3 /usr/bin/python
