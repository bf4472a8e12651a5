"""The files with which the platform is deployed fit one another, its settings and the tools that read them.

Core kinds of Kubernetes are checked against their schemas; of the operators' kinds, that they use known fields only: the
names below are those of the operators' own definitions, as far as these files need them.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from test_configs_settings import key_of

from cluster.launch.node import node_environment
from configs.settings import Settings, load_settings, secret_variables

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "cluster" / "k8s"
TERRAFORM = ROOT / "cluster" / "terraform"
FILEBEAT = ROOT / "cluster" / "logging" / "filebeat.yml"
COMPOSE = ROOT / "cluster" / "deploy" / "docker-compose.yml"
VERSION = "1.33"
SECRETS = {
    "SMTP_URL": "smtps://mail.example.com",
    "SUGAR_AUTH__ACCOUNT_KEY": key_of("account"), "SUGAR_AUTH__SIGNING_KEY_PEM": "pem",
    "SUGAR_AUTH__REFRESH_KEY": key_of("refresh"), "SUGAR_AUTH__IMPRESSION_KEY": key_of("impression"),
    "SUGAR_ASSURANCE__CALLBACK_KEY": key_of("callback"), "SUGAR_MEDIA__URL_KEY": key_of("url"),
    "SUGAR_MEDIA__S3_ACCESS_KEY_ID": "id", "SUGAR_MEDIA__S3_SECRET_ACCESS_KEY": "secret",
    "SUGAR_PAYMENTS__STRIPE_KEY": "sk_live_0", "SUGAR_PAYMENTS__STRIPE_WEBHOOK_SECRETS": '["whsec_0"]',
}
"""What `sugar-secrets` holds (docs/operations.md)."""

ANY = "*"
FIELDS: dict[str, Any] = {
    "ray.io/v1/RayCluster": {
        "rayVersion": {}, "enableInTreeAutoscaling": {}, "autoscalerOptions": {"idleTimeoutSeconds": {}, "resources": ANY},
        "gcsFaultToleranceOptions": {"redisAddress": {}, "redisPassword": {"valueFrom": {"secretKeyRef": {"name": {}, "key": {}}}}},
        "headGroupSpec": {"rayStartParams": ANY, "template": ANY},
        "workerGroupSpecs": {"groupName": {}, "replicas": {}, "minReplicas": {}, "maxReplicas": {}, "rayStartParams": ANY, "template": ANY},
    },
    "kafka.strimzi.io/v1/KafkaNodePool": {
        "replicas": {}, "roles": {}, "resources": ANY, "template": {"pod": {"affinity": ANY}},
        "storage": {"type": {}, "volumes": {"id": {}, "type": {}, "size": {}, "deleteClaim": {}, "kraftMetadata": {}}},
    },
    "kafka.strimzi.io/v1/Kafka": {
        "kafka": {
            "version": {}, "config": ANY, "authorization": {"type": {}},
            "listeners": {"name": {}, "port": {}, "type": {}, "tls": {}, "authentication": {"type": {}}},
        },
        "entityOperator": {"template": {"pod": {"affinity": ANY}}, "userOperator": {}},
    },
    "kafka.strimzi.io/v1/KafkaUser": {
        "authentication": {"type": {}},
        "authorization": {"type": {}, "acls": {"resource": {"type": {}, "name": {}, "patternType": {}}, "operations": {}}},
    },
    "postgresql.cnpg.io/v1/Cluster": {
        "instances": {}, "imageName": {}, "primaryUpdateStrategy": {}, "primaryUpdateMethod": {}, "resources": ANY,
        "bootstrap": {"initdb": {"database": {}, "owner": {}}},
        "postgresql": {"parameters": ANY, "synchronous": {"method": {}, "number": {}, "dataDurability": {}}},
        "affinity": {"enablePodAntiAffinity": {}, "topologyKey": {}, "podAntiAffinityType": {}, "nodeSelector": ANY},
        "storage": {"size": {}}, "walStorage": {"size": {}}, "monitoring": {"enablePodMonitor": {}},
        "plugins": {"name": {}, "isWALArchiver": {}, "parameters": ANY},
    },
    "postgresql.cnpg.io/v1/ScheduledBackup": {
        "schedule": {}, "backupOwnerReference": {}, "cluster": {"name": {}}, "method": {}, "pluginConfiguration": {"name": {}},
    },
    "barmancloud.cnpg.io/v1/ObjectStore": {
        "retentionPolicy": {},
        "configuration": {
            "destinationPath": {}, "endpointURL": {}, "wal": {"compression": {}}, "data": {"compression": {}},
            "s3Credentials": {"accessKeyId": {"name": {}, "key": {}}, "secretAccessKey": {"name": {}, "key": {}}},
        },
    },
    "cert-manager.io/v1/Issuer": {"selfSigned": {}, "ca": {"secretName": {}}},
    "cert-manager.io/v1/Certificate": {
        "isCA": {}, "commonName": {}, "duration": {}, "secretName": {}, "dnsNames": {}, "privateKey": {"algorithm": {}, "size": {}},
        "issuerRef": {"kind": {}, "name": {}},
    },
    "gateway.envoyproxy.io/v1alpha1/EnvoyProxy": {
        "provider": {"type": {}, "kubernetes": {
            "envoyDeployment": {"pod": {"nodeSelector": ANY}}, "envoyService": {"externalTrafficPolicy": {}, "annotations": ANY},
        }},
    },
    "gateway.networking.k8s.io/v1/Gateway": {
        "gatewayClassName": {}, "infrastructure": {"parametersRef": {"group": {}, "kind": {}, "name": {}}},
        "listeners": {
            "name": {}, "hostname": {}, "port": {}, "protocol": {}, "allowedRoutes": {"namespaces": {"from": {}}},
            "tls": {"mode": {}, "certificateRefs": {"kind": {}, "name": {}}},
        },
    },
    "gateway.networking.k8s.io/v1/HTTPRoute": {
        "parentRefs": {"name": {}, "sectionName": {}},
        "rules": {
            "matches": {"path": {"type": {}, "value": {}}}, "timeouts": {"request": {}}, "backendRefs": {"name": {}, "port": {}},
            "filters": {"type": {}, "requestRedirect": {"scheme": {}, "statusCode": {}}},
        },
    },
    "gateway.envoyproxy.io/v1alpha1/BackendTrafficPolicy": {
        "targetRefs": {"group": {}, "kind": {}, "name": {}},
        "rateLimit": {"type": {}, "global": {"rules": {
            "clientSelectors": {"sourceCIDR": {"type": {}, "value": {}}}, "limit": {"requests": {}, "unit": {}},
        }}},
    },
}
CORE = ("v1", "apps/v1", "batch/v1", "policy/v1", "networking.k8s.io/v1")


def kind_of(document: dict[str, Any]) -> str:
    return f"{document['apiVersion']}/{document['kind']}"


def patched(document: dict[str, Any], operations: list[dict[str, Any]]) -> None:
    """JSON patches, as kustomize applies them; only ``replace``, and only of what is there."""
    for operation in operations:
        assert operation["op"] == "replace"
        *path, last = operation["path"].lstrip("/").split("/")
        at: Any = document
        for step in path:
            at = at[int(step) if isinstance(at, list) else step]
        key: Any = int(last) if isinstance(at, list) else last
        assert isinstance(at, list) or key in at, f"{operation['path']} of {kind_of(document)} is not there to be replaced"
        at[key] = operation["value"]


def rendered() -> dict[tuple[str, str], dict[str, Any]]:
    """(kind, name) -> what `kubectl apply -k` applies, without namespaces."""
    plan = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())
    found = {
        (document["kind"], document["metadata"]["name"]): document
        for file in plan["resources"] for document in yaml.safe_load_all((KUBERNETES / file).read_text())
    }
    for patch in plan["patches"]:
        patched(found[(patch["target"]["kind"], patch["target"]["name"])], yaml.safe_load(patch["patch"]))
    images = {image["name"]: f"{image['newName']}:{image['newTag']}" for image in plan["images"]}

    def named(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: images.get(inner, inner) if name == "image" else named(inner) for name, inner in value.items()}
        return [named(inner) for inner in value] if isinstance(value, list) else value

    return {name: named(document) for name, document in found.items()}


RENDERED = rendered()


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every pod template, by where it stands."""
    for (kind, name), document in RENDERED.items():
        if kind == "RayCluster":
            yield f"{name}/head", document["spec"]["headGroupSpec"]["template"]
            for group in document["spec"]["workerGroupSpecs"]:
                yield f"{name}/{group['groupName']}", group["template"]
        elif kind in ("StatefulSet", "Job", "Deployment"):
            yield f"{kind}/{name}", document["spec"]["template"]


PODS = dict(pods())


@pytest.mark.parametrize("name", [name for name, document in RENDERED.items() if document["apiVersion"] in CORE], ids="/".join)
def test_resources_of_kubernetes_itself_fit_their_schema(name: tuple[str, str]) -> None:
    kubernetes_validate.validate(RENDERED[name], VERSION, strict=True)


@pytest.mark.parametrize("name", PODS)
def test_pods_fit_their_schema_and_run_without_privileges(name: str) -> None:
    template = PODS[name]
    restarts = {"restartPolicy": template["spec"].get("restartPolicy", "Always")}
    kubernetes_validate.validate(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": template["spec"] | restarts}, VERSION, strict=True,
    )
    assert template["spec"]["securityContext"]["runAsNonRoot"] is True
    volumes = {volume["name"] for volume in template["spec"].get("volumes", ())}
    claims = {"data"}
    for container in template["spec"]["containers"]:
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["resources"]["limits"]["memory"]
        assert re.search(r":[\w.-]+$", container["image"]), "an image without a tag is another one tomorrow"
        assert {mount["name"] for mount in container.get("volumeMounts", ())} <= volumes | claims


@pytest.mark.parametrize("name", [name for name, document in RENDERED.items() if document["apiVersion"] not in CORE], ids="/".join)
def test_resources_of_operators_use_known_fields(name: tuple[str, str]) -> None:
    document = RENDERED[name]
    known_only(document["spec"], FIELDS[kind_of(document)], "spec", kind_of(document))


def known_only(value: Any, known: Any, path: str, kind: str) -> None:
    if known == ANY:
        return
    if isinstance(value, list):
        for inner in value:
            known_only(inner, known, path, kind)
    elif isinstance(value, dict):
        for key, inner in value.items():
            assert key in known, f"{path}.{key} is not a field of {kind}"
            known_only(inner, known[key], f"{path}.{key}", kind)


def environment_of(template: dict[str, Any]) -> dict[str, str]:
    """What a Ray node's process gets: the settings, the secrets by reference, and what is made of them."""
    container = template["spec"]["containers"][0]
    assert container["envFrom"] == [{"configMapRef": {"name": "sugar-settings"}}, {"secretRef": {"name": "sugar-secrets"}}]
    found = dict(RENDERED[("ConfigMap", "sugar-settings")]["data"]) | SECRETS
    for variable in container["env"]:
        text = variable.get("value", "from-secret")
        found[variable["name"]] = re.sub(r"\$\((\w+)\)", lambda hit: found[hit.group(1)], text)
    return found


@pytest.mark.parametrize("name", [name for name in PODS if name.startswith("sugar/")])
def test_every_ray_node_starts_with_settings_that_production_takes(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable, value in environment_of(PODS[name]).items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("SUGAR_DATA_DIR", str(tmp_path))
    settings = load_settings()
    assert settings.profile == "production"
    assert not settings.allow_plaintext
    assert node_environment(settings)["RAY_SERVE_ENABLE_HA_PROXY"] == "1"
    mounted = {mount["mountPath"] for mount in PODS[name]["spec"]["containers"][0]["volumeMounts"]}
    for file in (settings.kafka.ca_file, "/etc/sugar/database-ca/ca.crt", "/etc/sugar/redis-ca/ca.crt"):
        assert str(Path(file).parent) in mounted, f"{file} is not mounted"


def test_the_planned_nodes_hold_the_planned_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in environment_of(PODS["sugar/compute"]).items():
        monkeypatch.setenv(variable, value)
    settings = load_settings()
    plan = settings.plan
    actors = plan.swipe_actors + plan.card_actors + plan.identity_actors + plan.message_actors + plan.commerce_actors + plan.writer_actors + 2
    needed = actors * plan.actor_cpus + plan.serve_replicas * plan.serve_cpus
    compute, gateway = RENDERED[("RayCluster", "sugar")]["spec"]["workerGroupSpecs"]
    # Ray is told the limit as the node's cores.
    cpus = float(compute["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"])
    assert needed <= (compute["minReplicas"] - 1) * cpus, "one lost node leaves room for everything"
    most = actors * plan.actor_cpus + plan.serve_replicas_max * plan.serve_cpus
    assert most <= compute["maxReplicas"] * cpus, "as many replicas as load may add find room"
    assert gateway["replicas"] == plan.gateways == len(settings.realtime.ports)
    assert len(set(settings.realtime.ports)) == 1, "each gateway has a node of its own, behind one port of the service"
    assert settings.realtime.node_resource in gateway["rayStartParams"]["resources"]
    assert gateway["rayStartParams"]["num-cpus"] == "0", "nothing else may take what its sockets need"


VCPUS = {"large": 2, "xlarge": 4, "2xlarge": 8, "4xlarge": 16}
TAKEN_CPUS = 0.5
"""Of a machine, by Kubernetes itself and the agents on every node."""


def machines() -> dict[str, int]:
    """Node group -> cores of its machines."""
    text = (TERRAFORM / "variables.tf").read_text()
    return {group: VCPUS[size] for group, size in re.findall(r'^\s*(\w+)\s*=\s*\{ machine = "\w+\.(\w+)"', text, re.MULTILINE)}


def affinities() -> dict[str, dict[str, Any]]:
    """Affinity of the pods that Strimzi makes, which has no node selector."""
    kafka = {f"KafkaNodePool/{name}": document["spec"]["template"]["pod"]["affinity"] for (kind, name), document in RENDERED.items() if kind == "KafkaNodePool"}
    return kafka | {"Kafka/operator": RENDERED[("Kafka", "sugar-log")]["spec"]["entityOperator"]["template"]["pod"]["affinity"]}


def groups() -> dict[str, str]:
    """Workload -> group of the machines that it runs on."""
    selectors = {name: template["spec"]["nodeSelector"] for name, template in PODS.items()}
    selectors["Cluster/sugar-db"] = RENDERED[("Cluster", "sugar-db")]["spec"]["affinity"]["nodeSelector"]
    selectors["EnvoyProxy/sugar"] = RENDERED[("EnvoyProxy", "sugar")]["spec"]["provider"]["kubernetes"]["envoyDeployment"]["pod"]["nodeSelector"]
    for name, affinity in affinities().items():
        [term] = affinity["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
        [wanted] = term["matchExpressions"]
        assert wanted["operator"] == "In"
        selectors[name] = {wanted["key"]: wanted["values"][0]}
    assert {key for selector in selectors.values() for key in selector} == {"group"}
    return {name: selector["group"] for name, selector in selectors.items()}


def test_every_workload_runs_on_the_machines_that_are_planned_for_it() -> None:
    assert groups() == {
        "sugar/compute": "compute",
        "sugar/head": "general", "sugar/gateway": "general", "StatefulSet/sugar-ray-state": "general", "Job/sugar-deploy": "general",
        "Kafka/operator": "general", "EnvoyProxy/sugar": "general",
        "KafkaNodePool/broker": "data", "KafkaNodePool/controller": "data", "Cluster/sugar-db": "data", "StatefulSet/sugar-redis": "data",
    }
    assert set(groups().values()) == set(machines()), "each group has something to do"
    assert "labels          = { group = each.key }" in (TERRAFORM / "cluster.tf").read_text()


def test_every_pod_fits_the_machine_that_is_planned_for_it() -> None:
    def asked(resources: dict[str, Any]) -> float:
        cpu = str(resources["requests"]["cpu"])
        return float(cpu.removesuffix("m")) / 1_000 if cpu.endswith("m") else float(cpu)

    resources = {name: template["spec"]["containers"][0]["resources"] for name, template in PODS.items()}
    resources["Cluster/sugar-db"] = RENDERED[("Cluster", "sugar-db")]["spec"]["resources"]
    resources |= {f"KafkaNodePool/{name}": document["spec"]["resources"] for (kind, name), document in RENDERED.items() if kind == "KafkaNodePool"}
    cores, where = machines(), groups()
    for name, wanted in resources.items():
        assert asked(wanted) <= cores[where[name]] - TAKEN_CPUS, name


def test_a_lost_machine_takes_one_broker_with_it() -> None:
    for name, affinity in affinities().items():
        kubernetes_validate.validate({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"},
            "spec": {"affinity": affinity, "containers": [{"name": "kafka"}]},
        }, VERSION, strict=True)
        if name != "Kafka/operator":
            [apart] = affinity["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
            assert apart["topologyKey"] == "kubernetes.io/hostname"
            labels = {"strimzi.io/cluster": "sugar-log", "strimzi.io/pool-name": name.removeprefix("KafkaNodePool/")}
            assert apart["labelSelector"]["matchLabels"] == labels


def test_a_drained_node_gives_up_one_pod_of_a_group() -> None:
    for group in RENDERED[("RayCluster", "sugar")]["spec"]["workerGroupSpecs"]:
        budget = RENDERED[("PodDisruptionBudget", f"sugar-{group['groupName']}")]["spec"]
        # A RayCluster has no scale: a budget that must ask how many there should be allows nothing, for ever.
        assert set(budget) == {"minAvailable", "selector"}
        assert budget["minAvailable"] == group["minReplicas"] - 1
        assert budget["selector"]["matchLabels"] == {"ray.io/cluster": "sugar", "ray.io/group": group["groupName"]}
    nodes = RENDERED[("StatefulSet", "sugar-redis")]["spec"]
    budget = RENDERED[("PodDisruptionBudget", "sugar-redis")]["spec"]
    assert budget == {"minAvailable": nodes["replicas"] - 1, "selector": nodes["selector"]}
    budgets = {name for kind, name in RENDERED if kind == "PodDisruptionBudget"}
    assert budgets == {"sugar-compute", "sugar-gateway", "sugar-redis"}, "one pod alone can only be moved, or stop every drain"


def test_every_node_of_redis_is_asked_under_a_name_that_its_certificate_holds() -> None:
    nodes = RENDERED[("StatefulSet", "sugar-redis")]["spec"]
    names = {f"sugar-redis-{number}.{nodes['serviceName']}" for number in range(nodes["replicas"])}
    assert set(RENDERED[("Certificate", "sugar-redis")]["spec"]["dnsNames"]) == names | {"sugar-redis"}
    for name in ("sugar-ca", "sugar-redis"):
        assert RENDERED[("Certificate", name)]["spec"]["duration"] == "87600h", "a server reads it when it starts, and for months nothing restarts it"
    together, start = (RENDERED[("ConfigMap", "sugar-redis-cluster")]["data"][name] for name in ("together.sh", "start.sh"))
    assert "for other in 0 1 2 3 4 5" in together, "all six"
    assert '--cluster-announce-hostname "$POD_NAME.$SERVICE"' in start


def test_the_edge_sees_the_addresses_of_clients() -> None:
    reference = RENDERED[("Gateway", "sugar")]["spec"]["infrastructure"]["parametersRef"]
    service = RENDERED[(reference["kind"], reference["name"])]["spec"]["provider"]["kubernetes"]["envoyService"]
    assert service["externalTrafficPolicy"] == "Local", "a second hop would put its own address in the place of the client's"
    assert service["annotations"]["service.beta.kubernetes.io/aws-load-balancer-type"] == "nlb"


def test_services_and_policies_name_ports_and_pods_that_exist() -> None:
    groups = {group["groupName"]: group["template"] for group in RENDERED[("RayCluster", "sugar")]["spec"]["workerGroupSpecs"]}
    for service, group in (("sugar-api", "compute"), ("sugar-realtime", "gateway")):
        spec = RENDERED[("Service", service)]["spec"]
        assert spec["selector"] == {"ray.io/cluster": "sugar", "ray.io/group": group}
        assert spec["ports"][0]["targetPort"] in {port["containerPort"] for port in groups[group]["spec"]["containers"][0]["ports"]}
    for (kind, _), route in RENDERED.items():
        if kind == "HTTPRoute":
            listeners = {listener["name"] for listener in RENDERED[("Gateway", "sugar")]["spec"]["listeners"]}
            assert {parent["sectionName"] for parent in route["spec"]["parentRefs"]} <= listeners
            for rule in route["spec"]["rules"]:
                for backend in rule.get("backendRefs", ()):
                    ports = {port["port"] for port in RENDERED[("Service", backend["name"])]["spec"]["ports"]}
                    assert backend["port"] in ports


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl renders the same; without it this file's own rendering is checked")
def test_kubectl_renders_the_same() -> None:
    done = subprocess.run(["kubectl", "kustomize", str(KUBERNETES)], capture_output=True, text=True, check=True)
    theirs = {(document["kind"], document["metadata"]["name"]): document for document in yaml.safe_load_all(done.stdout)}
    for document in theirs.values():
        document["metadata"].pop("namespace", None)
    assert theirs == RENDERED


def test_the_engines_are_of_one_version_wherever_they_run() -> None:
    compose = yaml.safe_load(COMPOSE.read_text())["services"]
    kafka = re.search(r"<version>(\d+\.\d+\.\d+)</version>", (ROOT / "cluster" / "engines" / "kafka.pom.xml").read_text())
    assert kafka
    assert compose["kafka"]["image"] == f"apache/kafka:{kafka.group(1)}"
    assert RENDERED[("Kafka", "sugar-log")]["spec"]["kafka"]["version"] == kafka.group(1)
    database = RENDERED[("Cluster", "sugar-db")]["spec"]["imageName"]
    postgres = re.fullmatch(r"example\.com/[\w./-]+:(\d+\.\d+)-[\w-]+", database)
    assert postgres, "pinned to the minor version, in a registry of one's own"
    assert compose["postgres"]["image"].startswith(f"postgres:{postgres.group(1)}-")
    redis = {container["image"] for template in PODS.values() for container in template["spec"]["containers"] if "valkey" in container["image"]}
    assert redis == {compose["valkey"]["image"]}


def test_every_address_that_one_server_is_told_a_cluster_is_told_too() -> None:
    """What is missing has a default of development: another bucket, a sender that is nobody."""
    example = set(re.findall(r"^([A-Z]\w+)=", (COMPOSE.parent / "platform.env.example").read_text(), re.MULTILINE))
    settings = RENDERED[("ConfigMap", "sugar-settings")]["data"]
    assert example - set(SECRETS) <= set(settings)
    assert not [name for name in example & set(settings) if not settings[name]], "kustomization.yaml gives each of them"


def test_every_variable_in_these_files_is_a_setting() -> None:
    def variables(model: Any, prefix: str) -> Iterator[str]:
        for name, field in model.model_fields.items():
            variable = str(field.validation_alias or f"{prefix}{name.upper()}")
            yield variable
            if hasattr(field.annotation, "model_fields"):
                yield from variables(field.annotation, f"{variable}__")

    known = set(variables(Settings, "SUGAR_")) | {f"{name}_FILE" for name in secret_variables(Settings)}
    used = set(RENDERED[("ConfigMap", "sugar-settings")]["data"]) | set(SECRETS)
    compose = yaml.safe_load(COMPOSE.read_text())
    used |= {name for name in compose["services"]["platform"]["environment"] if not name.startswith("RAY_")}
    used |= set(re.findall(r"^([A-Z]\w+)=", (COMPOSE.parent / "platform.env.example").read_text(), re.MULTILINE))
    assert used <= known, f"no such settings: {used - known}"


def databases(directory: Path) -> tuple[set[str], set[str]]:
    """(clusters of PostgreSQL that Ray's pods use, clusters of which base backups are taken), by the files of a directory."""
    used = re.findall(r"(?:@|secretName: )(sugar-db[\w-]*)-(?:rw|ro|ca)\b", (directory / "ray.yaml").read_text())
    documents = yaml.safe_load_all((directory / "postgres.yaml").read_text())
    return set(used), {document["spec"]["cluster"]["name"] for document in documents if document["kind"] == "ScheduledBackup"}


def test_backups_are_of_the_database_that_is_used_also_after_a_restore(tmp_path: Path) -> None:
    assert databases(KUBERNETES) == ({"sugar-db"}, {"sugar-db"})
    shutil.copytree(KUBERNETES, tmp_path / "cluster" / "k8s")
    edits = re.findall(r"^ *(sed -i '[^']+' cluster/k8s/\w+\.yaml)$", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE)
    for edit in edits:
        subprocess.run(shlex.split(edit), cwd=tmp_path, check=True)
    assert databases(tmp_path / "cluster" / "k8s") == ({"sugar-db-restored"}, {"sugar-db-restored"})


def test_lines_that_are_no_json_are_left_out_before_json_is_read() -> None:
    [logs] = yaml.safe_load(FILEBEAT.read_text())["filebeat.inputs"]
    assert "include_lines" not in logs, "judged after the parsers, which leave no line to judge: nothing would be shipped"
    (first, kept), (second, _) = (next(iter(parser.items())) for parser in logs["parsers"])
    assert (first, second) == ("include_message", "ndjson")
    assert kept == {"patterns": [r"^\{"]}
