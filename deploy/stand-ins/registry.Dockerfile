FROM sms-optout-stand-in:debian
RUN apt-get update -qq && apt-get install -qq -y --no-install-recommends openjdk-21-jre-headless && rm -rf /var/lib/apt/lists/*
COPY app /deployments
USER 1001
CMD ["java", "-jar", "/deployments/quarkus-run.jar"]
