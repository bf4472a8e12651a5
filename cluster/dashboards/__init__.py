"""What operators look at: Grafana dashboards and Prometheus rules, as files beside this one.

``alerts.yml`` and ``prometheus.yml`` are written by hand; the dashboards are made from ``panels.py`` by
``python -m cluster.dashboards``, which also puts everything into ``kubernetes.yaml`` for the Prometheus operator. `sugar up` puts a Prometheus configuration that needs no change into ``run/prometheus``.
"""
