"""A pod's files and variables as the kubelet gives them to a container, under a folder of ours."""

import os

from worker.settings import load


def settings_in(spec, things, patch, root):
    """The worker's settings in the first container of a pod.

    Args:
        spec: The specification of the pod.
        things: Objects, among them the ConfigMaps that it names.
        patch: pytest's monkeypatch.
        root: Folder for the files, in place of the container's root.
    """
    container = spec["containers"][0]
    for mount in container["volumeMounts"]:
        (volume,) = (each for each in spec["volumes"] if each["name"] == mount["name"])
        folder = root / mount["mountPath"].lstrip("/")
        folder.mkdir(parents=True, exist_ok=True)
        if "projected" in volume:
            _project(volume["projected"], folder)
    for name in [name for name in os.environ if name.startswith("WORKER_")]:
        patch.delenv(name)
    for name, value in _variables(container, things).items():
        patch.setenv(name, str(root / value[1:]) if value.startswith("/") else value)
    patch.chdir(root)  # no .env
    return load([])


def _variables(container, things):
    found = {}
    for source in container["envFrom"]:
        if "configMapRef" not in source:
            continue
        (data,) = (
            thing["data"]
            for thing in things
            if (thing["kind"], thing["metadata"]["name"])
            == ("ConfigMap", source["configMapRef"]["name"])
        )
        found |= data
    return found | {each["name"]: each["value"] for each in container.get("env", [])}


def _project(projected, folder):
    """Links to links to files, so that all of them change at once. Each says where it is from."""
    version = folder / "..2026_11_22_18_00_00.1"
    version.mkdir(exist_ok=True)
    (folder / "..data").symlink_to(version.name)
    for source in projected["sources"]:
        if "serviceAccountToken" in source:
            token = source["serviceAccountToken"]
            (version / token["path"]).write_text(f"service account for {token['audience']}")
            (folder / token["path"]).symlink_to(f"..data/{token['path']}")
            continue
        for item in source["secret"]["items"]:
            (version / item["path"]).write_text(f"{source['secret']['name']}/{item['key']}")
            (folder / item["path"]).symlink_to(f"..data/{item['path']}")
