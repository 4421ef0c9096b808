"""The real servers on one machine: Kafka, Postgres and the engine as processes, two of each service beside them."""
