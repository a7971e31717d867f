"""One Pod of the demo: one Gunicorn master, its workers, its metrics. `gunicorn` started in this folder finds this file.

Environment: BIND (host:port of the API), METRICS_BIND (host:port of /metrics), WEB_CONCURRENCY (workers, 2),
PROMETHEUS_MULTIPROC_DIR (a folder of this Pod alone; what is in it is thrown away); for the application PG*,
REDIS_URL (orders/settings.py) and UPSTREAM_DELAY_FILE (orders/views.py).
"""

import os
import shutil
import signal
import threading
import time
from wsgiref.util import setup_testing_defaults

bind = os.environ["BIND"]
workers = int(os.environ.get("WEB_CONCURRENCY", "2"))
wsgi_app = "orders.wsgi"
timeout = 30
graceful_timeout = 5
loglevel = "warning"
# Its default is one path for all masters of this user.
control_socket_disable = True

# Before anything imports prometheus_client, which opens files there; those of a former run would be added to ours.
shutil.rmtree(os.environ["PROMETHEUS_MULTIPROC_DIR"], ignore_errors=True)
os.makedirs(os.environ["PROMETHEUS_MULTIPROC_DIR"])


def when_ready(server):
    """Serve the metrics from the master: under load a scrape would queue behind requests for a busy worker."""
    from prometheus_client import CollectorRegistry, multiprocess, start_http_server

    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)
    host, port = os.environ["METRICS_BIND"].rsplit(":", 1)
    start_http_server(int(port), addr=host, registry=registry)
    _end_with(os.getppid(), signal.SIGTERM)


def post_fork(server, worker):
    _end_with(worker.ppid, signal.SIGKILL)


def post_worker_init(worker):
    """Connect and import what a first request would, so that no user waits for it."""
    for path in ("/api/health", "/api/v1/accounts/1"):
        environ = {"PATH_INFO": path}
        setup_testing_defaults(environ)
        worker.wsgi(environ, lambda status, headers, exc_info=None: None).close()


def _end_with(parent, how):
    """Die when `parent` does, however it died: a Pod must not outlive the demo, nor workers their master.

    Polling, because PR_SET_PDEATHSIG follows the parent's thread, and a runtime's threads come and go.
    """

    def watch():
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), how)

    threading.Thread(target=watch, daemon=True).start()
