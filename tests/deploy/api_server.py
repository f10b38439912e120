"""As much of a Kubernetes API server as helm's `lookup` asks: what runs, without a cluster."""

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import yaml

KINDS = {
    "v1": [("configmaps", "ConfigMap")],
    "apps/v1": [("deployments", "Deployment"), ("statefulsets", "StatefulSet")],
}


@contextlib.contextmanager
def cluster(*things, directory, namespace="default"):
    """A cluster in which these objects run; yields the path of its kubeconfig."""
    found = {
        (thing["apiVersion"], thing["kind"], thing["metadata"]["name"]): thing for thing in things
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            status, answer = answered(self.path.partition("?")[0], found, namespace)
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    config = directory / "kubeconfig"
    address = {"cluster": {"server": f"http://127.0.0.1:{server.server_port}"}, "name": "c"}
    context = {"context": {"cluster": "c", "user": "u"}, "name": "x"}
    config.write_text(
        yaml.safe_dump({
            "apiVersion": "v1", "kind": "Config", "clusters": [address], "contexts": [context],
            "current-context": "x", "users": [{"name": "u", "user": {}}],
        })
    )  # fmt: skip
    try:
        yield config
    finally:
        server.shutdown()
        server.server_close()


def answered(path, found, namespace):
    """Status and body of a GET."""
    version = {"groupVersion": "apps/v1", "version": "v1"}
    group = {"name": "apps", "versions": [version], "preferredVersion": version}
    fixed = {
        "/version": {"major": "1", "minor": "34", "gitVersion": "v1.34.0"},
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": [group]},
    }
    if path in fixed:
        return 200, fixed[path]
    for version, kinds in KINDS.items():
        root = f"/api/{version}" if version == "v1" else f"/apis/{version}"
        if path == root:
            listed = [
                {"name": name, "kind": kind, "namespaced": True, "verbs": ["get", "list"]}
                for name, kind in kinds
            ]
            return 200, {"kind": "APIResourceList", "groupVersion": version, "resources": listed}
        for plural, kind in kinds:
            folder = f"{root}/namespaces/{namespace}/{plural}"
            if path == folder:
                items = [thing for (_, k, _), thing in found.items() if k == kind]
                return 200, {"kind": f"{kind}List", "apiVersion": version, "items": items}
            thing = found.get((version, kind, path.removeprefix(f"{folder}/")))
            if thing and path.startswith(folder):
                return 200, thing
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound"}
    return 404, status | {"code": 404}
