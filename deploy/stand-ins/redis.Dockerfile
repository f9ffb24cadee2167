FROM sms-optout-stand-in:debian
RUN apt-get update -qq && apt-get install -qq -y --no-install-recommends redis-server && rm -rf /var/lib/apt/lists/*
RUN mkdir /data && chown redis:redis /data
WORKDIR /data
CMD ["redis-server"]
