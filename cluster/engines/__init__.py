"""The real servers that a cluster runs on, started on one machine: Apache Kafka, Redis Cluster, PostgreSQL with replicas.

For tests and for trying out the production profile; on a cluster operators run them (``cluster/k8s``).
"""
