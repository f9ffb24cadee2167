"""The guard over HTTP, for those who cannot import it.

    commands     `optout serve`
    alone        the same where nothing of the worker is installed
    server       listens, and ends in order
    connection   how long a client may take, and how many there may be
    app          puts the parts together
    door         who may ask, what happens when an answer fails, and what is counted
    operations   what can be asked: the handlers
    questions    a body, read with suspicion
    words        what stands in bodies: the models of questions and answers
    readiness    whether Redis can be asked
    problems     why there is no answer, as problem+json
    document     openapi.json, made of the same operations and models
    metrics      what is counted
    errors       why it does not begin

An answer that is not ALLOWED has a status that is no success, wherever there is one answer: whoever looks at the status
alone does not send. Nothing here imports Kafka or Redis.
"""
