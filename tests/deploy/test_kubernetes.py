"""The overlays as kubectl renders them: valid objects that fit each other, the image, and what the server takes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from server.app import close_app, make_app
from server.commands.backup import USAGE
from server.config import Config, ConfigError
from server.options import read_settings
from tests.deploy import programs
from tests.deploy.dockerfile import stages
from tests.deploy.settings import stop_seconds, told
from tests.harness.server_process import REPOSITORY

FOLDER = REPOSITORY / "deploy" / "kubernetes"
OVERLAYS = ("staging", "production")
VERSIONS = ("1.30", "1.37")
"""The oldest that has all that is used, and the newest with schemas here."""

DUMMIES = {"EBBTIDE_STORE": "mongodb://ebbtide:secret@db/ebbtide?replicaSet=rs0", "EBBTIDE_BUS": "redis://:secret@redis:6379"}
NAME = "app.kubernetes.io/name"
Object = dict[str, Any]


class Objects:
    """What one overlay renders."""

    def __init__(self, overlay: str) -> None:
        self.all: list[Object] = list(yaml.safe_load_all(programs.run("kubectl", "kustomize", str(FOLDER / overlay))))

    def of(self, kind: str) -> list[Object]:
        return [each for each in self.all if each["kind"] == kind]

    def one(self, kind: str) -> Object:
        (found,) = self.of(kind)
        return found

    @property
    def pod(self) -> Object:
        pod: Object = self.one("Deployment")["spec"]["template"]
        return pod

    @property
    def container(self) -> Object:
        (container,) = self.pod["spec"]["containers"]
        assert isinstance(container, dict)
        return container

    @property
    def backup(self) -> Object:
        """The pod of a backup."""
        pod: Object = self.one("CronJob")["spec"]["jobTemplate"]["spec"]["template"]
        return pod

    def config(self) -> Config:
        """What the server reads from the ConfigMap that the container names, and a Secret with dummies."""
        sources = self.container["envFrom"]
        names = {kind: source["name"] for each in sources for kind, source in each.items()}
        given = self.one("ConfigMap")
        assert names == {"configMapRef": given["metadata"]["name"], "secretRef": "ebbtide"}
        assert "env" not in self.container
        return told(given["data"] | DUMMIES)


@pytest.fixture(scope="module", params=OVERLAYS)
def objects(request: pytest.FixtureRequest) -> Objects:
    return Objects(request.param)


def walk(value: Any) -> Iterator[Any]:
    """The value and everything in it."""
    yield value
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from walk(each)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_valid(objects: Objects, version: str) -> None:
    assert len(objects.all) == 12
    for each in objects.all:
        assert kubernetes_validate.validate(each, version, strict=True) == version


@pytest.mark.parametrize("version", VERSIONS)
def test_an_object_with_a_field_that_does_not_exist_is_not_valid(version: str) -> None:
    broken = Objects("staging").one("PodDisruptionBudget")
    broken["spec"]["maxUnavailables"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, version, strict=True)


def test_everything_is_in_the_namespace_which_admits_only_confined_pods(objects: Objects) -> None:
    namespace = objects.one("Namespace")["metadata"]
    assert namespace["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert {each["metadata"].get("namespace") for each in objects.all if each["kind"] != "Namespace"} == {namespace["name"]}


def test_the_pod_is_confined(objects: Objects) -> None:
    pod, container = objects.pod["spec"], objects.container
    image = int(stages()[-1].texts("USER")[0].split(":")[0])
    assert pod["securityContext"] == {
        "runAsNonRoot": True, "runAsUser": image, "runAsGroup": image, "seccompProfile": {"type": "RuntimeDefault"}
    }  # fmt: skip
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}
    }  # fmt: skip
    assert pod["automountServiceAccountToken"] is False
    assert objects.one("ServiceAccount")["automountServiceAccountToken"] is False
    assert pod["serviceAccountName"] == objects.one("ServiceAccount")["metadata"]["name"]
    assert pod["enableServiceLinks"] is False
    assert container["resources"]["limits"].keys() == {"memory"}
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}


def test_a_backup_is_as_confined_and_may_write_to_its_volume(objects: Objects) -> None:
    server, backup = objects.pod["spec"], objects.backup["spec"]
    (container,) = backup["containers"]
    assert backup["securityContext"] == server["securityContext"] | {
        "fsGroup": server["securityContext"]["runAsGroup"], "fsGroupChangePolicy": "OnRootMismatch"
    }  # fmt: skip
    assert container["securityContext"] == objects.container["securityContext"]
    for name in ("automountServiceAccountToken", "serviceAccountName", "enableServiceLinks"):
        assert backup[name] == server[name]
    assert container["resources"]["limits"].keys() == {"memory"}


def test_a_backup_finds_the_store_and_its_volume_and_is_alone_there(objects: Objects) -> None:
    (container,) = objects.backup["spec"]["containers"]
    assert container["envFrom"] == [{"secretRef": {"name": "ebbtide"}}]
    command, *words = container["args"]
    assert command == "backup"
    told = read_settings(USAGE, words, stages()[-1].pairs("ENV") | DUMMIES)
    assert told["--store"] == DUMMIES["EBBTIDE_STORE"]
    paths = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert str(told["FOLDER"]) == paths["backup"]
    (claim,) = (
        each["persistentVolumeClaim"]["claimName"] for each in objects.backup["spec"]["volumes"] if each["name"] == "backup"
    )
    assert claim == objects.one("PersistentVolumeClaim")["metadata"]["name"]
    assert objects.one("CronJob")["spec"]["concurrencyPolicy"] == "Forbid"


def test_images_are_pinned(objects: Objects) -> None:
    images = [each["image"] for each in walk(objects.all) if isinstance(each, dict) and "image" in each]
    assert len(images) == 2
    assert len(set(images)) == 1
    assert all(re.search(r"(:\d+\.\d+\.\d+|@sha256:[0-9a-f]{64})$", image) for image in images)


def test_no_secret_is_among_the_objects(objects: Objects) -> None:
    assert objects.of("Secret") == []
    assert not {"EBBTIDE_STORE", "EBBTIDE_BUS", "EBBTIDE_TOKEN_SECRET"} & objects.one("ConfigMap")["data"].keys()


def test_the_server_takes_what_the_pods_are_told(objects: Objects) -> None:
    config = objects.config()
    assert config.host == "0.0.0.0"
    assert config.tokens.jwks_url is not None
    assert config.tokens.audience
    assert config.origins
    assert config.access.trust_proxy == 1


def test_each_deployment_has_its_own_channels_and_its_own_keys() -> None:
    one, other = (Objects(overlay).config() for overlay in OVERLAYS)
    assert one.bus_prefix != other.bus_prefix
    assert one.tokens.audience != other.tokens.audience


def test_selectors_match_the_pods(objects: Objects) -> None:
    labels = objects.pod["metadata"]["labels"]
    deployment = objects.one("Deployment")["spec"]
    selectors = [
        deployment["selector"]["matchLabels"],
        objects.one("Service")["spec"]["selector"],
        objects.one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        *(each["labelSelector"]["matchLabels"] for each in objects.pod["spec"]["topologySpreadConstraints"]),
    ]
    assert len(selectors) == 5
    backup = objects.backup["metadata"]["labels"]
    for selector in selectors:
        assert selector
        assert selector.items() <= labels.items()
        # Or the Service would send clients to it, and the budget count it.
        assert not selector.items() <= backup.items()
    assert labels.keys() == backup.keys() == {NAME}
    (expression,) = objects.one("NetworkPolicy")["spec"]["podSelector"]["matchExpressions"]
    assert expression == {"key": NAME, "operator": "In", "values": [labels[NAME], backup[NAME]]}


def test_a_rollout_takes_no_pod_away_before_another_is_ready(objects: Objects) -> None:
    deployment = objects.one("Deployment")["spec"]
    assert deployment["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    assert "replicas" not in deployment
    assert objects.one("PodDisruptionBudget")["spec"]["maxUnavailable"] == 1


def test_the_autoscaler_scales_the_deployment(objects: Objects) -> None:
    scaler, deployment = objects.one("HorizontalPodAutoscaler")["spec"], objects.one("Deployment")
    assert scaler["scaleTargetRef"] == {
        "apiVersion": deployment["apiVersion"], "kind": "Deployment", "name": deployment["metadata"]["name"]
    }  # fmt: skip
    assert scaler["minReplicas"] == 2
    assert scaler["maxReplicas"] <= 10
    cpu, sockets = scaler["metrics"]
    assert (cpu["resource"]["name"], sockets["pods"]["metric"]["name"]) == ("cpu", "ebbtide_sockets")
    # It has to act well before a pod refuses connections.
    assert int(sockets["pods"]["target"]["averageValue"]) <= objects.config().limits.max_connections * 0.75


def test_production_scales_from_two_to_ten() -> None:
    scaler = Objects("production").one("HorizontalPodAutoscaler")["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (2, 10)


def test_a_pod_has_the_time_to_drain(objects: Objects) -> None:
    config, pause = objects.config(), objects.container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert config.limits.drain_notice_seconds > 0
    assert objects.pod["spec"]["terminationGracePeriodSeconds"] > pause + stop_seconds(config)


def test_ports_agree(objects: Objects) -> None:
    (port,) = objects.container["ports"]
    image = stages()[-1]
    assert {port["containerPort"], objects.config().port, int(image.texts("EXPOSE")[0])} == {8080}
    (service,) = objects.one("Service")["spec"]["ports"]
    assert service["targetPort"] == port["name"]
    (entry,) = objects.one("NetworkPolicy")["spec"]["ingress"]
    assert [each["port"] for each in entry["ports"]] == [port["name"]]
    backends = [each["service"] for each in walk(objects.of("Ingress")) if isinstance(each, dict) and "service" in each]
    assert len(backends) == 3
    for backend in backends:
        assert backend == {"name": objects.one("Service")["metadata"]["name"], "port": {"name": service["name"]}}


def test_the_network_lets_in_two_and_out_four(objects: Objects) -> None:
    policy = objects.one("NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    peers = policy["ingress"][0]["from"]
    assert len(peers) == 2
    # One peer with two selectors means both; a missing one would let a whole namespace, or every namespace, in.
    assert all(peer.keys() == {"namespaceSelector", "podSelector"} for peer in peers)
    ports = [sorted({port["port"] for port in rule["ports"]}) for rule in policy["egress"]]
    assert ports == [[27017], [6379], [53], [443]]
    assert all(rule["to"] for rule in policy["egress"])


def test_the_example_of_a_store_outside_the_cluster_replaces_the_two_inside(tmp_path: Path) -> None:
    example = re.findall(r"^#   (.*)$", (FOLDER / "base" / "network.yaml").read_text(), re.MULTILINE)
    base = Path(os.path.relpath(FOLDER / "production", tmp_path.resolve()))
    (tmp_path / "kustomization.yaml").write_text("\n".join(["resources:", f"  - {base}", "patches:", *example]))
    rendered = yaml.safe_load_all(programs.run("kubectl", "kustomize", str(tmp_path)))
    (policy,) = (each for each in rendered if each["kind"] == "NetworkPolicy")
    assert kubernetes_validate.validate(policy, VERSIONS[0], strict=True)
    before, after = Objects("production").one("NetworkPolicy")["spec"]["egress"], policy["spec"]["egress"]
    assert [peer.keys() for rule in after[:2] for peer in rule["to"]] == [{"ipBlock"}] * 2
    assert [rule["ports"][0]["port"] for rule in after[:2]] == [rule["ports"][0]["port"] for rule in before[:2]]
    assert after[2:] == before[2:]


async def routes(folder: Path) -> set[str]:
    """The addresses that the server answers, without what is variable in them."""
    app = await make_app(Config(open=True, data=folder))
    try:
        return {resource.canonical.split("{")[0] for resource in app.router.resources()}
    finally:
        await close_app(app)


async def test_probes_ask_what_the_server_answers(objects: Objects, tmp_path: Path) -> None:
    known = await routes(tmp_path)
    paths = {name: probe["httpGet"]["path"] for name, probe in objects.container.items() if name.endswith("Probe")}
    assert paths == {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}
    assert set(paths.values()) <= known


async def test_the_public_reaches_what_is_for_clients_and_no_more(objects: Objects, tmp_path: Path) -> None:
    inside, known = {"/", "/healthz", "/readyz", "/metrics"}, await routes(tmp_path)
    assert inside <= known
    rules = [rule for ingress in objects.of("Ingress") for each in ingress["spec"]["rules"] for rule in each["http"]["paths"]]
    matched = {
        route for route in known for rule in rules
        if (route == rule["path"] if rule["pathType"] == "Exact" else f"{route}/".startswith(f"{rule['path']}/"))
    }  # fmt: skip
    assert matched == known - inside


def test_an_ingress_serves_one_host_with_a_certificate(objects: Objects) -> None:
    for ingress in objects.of("Ingress"):
        (rule,), (tls,) = ingress["spec"]["rules"], ingress["spec"]["tls"]
        assert tls["hosts"] == [rule["host"]]
        assert not rule["host"].endswith(".invalid")
        # Tokens are in addresses.
        assert ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/enable-access-log"] == "false"


def test_only_the_address_of_a_document_is_hashed(objects: Objects) -> None:
    name = "nginx.ingress.kubernetes.io/upstream-hash-by"
    hashed = [each for each in objects.of("Ingress") if name in each["metadata"]["annotations"]]
    (ingress,) = hashed
    # Not $request_uri: that has the token, which differs from one person to the next.
    assert ingress["metadata"]["annotations"][name] == "$uri"
    assert [path["path"] for path in ingress["spec"]["rules"][0]["http"]["paths"]] == ["/ws"]


def test_as_much_is_let_through_as_the_server_takes_in_one_push(objects: Objects) -> None:
    sizes = [
        each["metadata"]["annotations"].get("nginx.ingress.kubernetes.io/proxy-body-size") for each in objects.of("Ingress")
    ]
    assert f"{objects.config().limits.max_push_bytes >> 20}m" in sizes


@pytest.mark.parametrize("name", DUMMIES)
def test_the_server_refuses_the_example_of_a_secret(name: str) -> None:
    (example,) = yaml.safe_load_all((FOLDER / "secret.example.yaml").read_text())
    given: dict[str, str] = example["stringData"]
    assert kubernetes_validate.validate(example, VERSIONS[-1], strict=True)
    assert given.keys() == DUMMIES.keys()
    tokens = {"EBBTIDE_JWKS_URL": "https://auth.example.org/keys"}
    told(DUMMIES | tokens)
    with pytest.raises(ConfigError, match=name):
        told(DUMMIES | tokens | {name: given[name]})
