"""A Kafka and a Redis of one's own, for the demo, for development and for fast tests.

    launcher      runs inside each child: asks to be ended with its parent, then becomes the program
    process       starts and ends such children
    redis_server  a Redis or Valkey server
    given_redis   or one that somebody names
    kafka_mock    librdkafka's mock cluster, hosted in this process
    folder        where data and logs are, and no longer than the stack
    running       how other commands find a stack that is kept running
    stack         both together, with the environment that workers need

Nothing here is for production: see the promises that `kafka_mock` does not keep.
"""
