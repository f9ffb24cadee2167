FROM sms-optout-stand-in:debian
RUN apt-get update -qq && apt-get install -qq -y --no-install-recommends openjdk-21-jre-headless && rm -rf /var/lib/apt/lists/*
COPY jars /opt/kafka/libs
COPY kafka-run /etc/kafka/docker/run
RUN useradd --uid 1000 appuser && mkdir -p /var/lib/kafka/data && chown appuser /var/lib/kafka/data
USER appuser
CMD ["/etc/kafka/docker/run"]
