"""Settings of the demo API. All that differs from run to run comes from the environment, see demo/README.md."""

import os

from django.core.management.utils import get_random_secret_key

# Nothing is signed with it: there are no sessions, logins or forms.
SECRET_KEY = get_random_secret_key()
# It listens on loopback only, behind the edge and port mappings that choose their own host names.
ALLOWED_HOSTS = ["*"]

ROOT_URLCONF = "orders.urls"
WSGI_APPLICATION = "orders.wsgi.application"
INSTALLED_APPS = ["rest_framework", "django_prometheus", "orders"]
MIDDLEWARE = [
    "django_prometheus.middleware.PrometheusBeforeMiddleware",
    "django_prometheus.middleware.PrometheusAfterMiddleware",
]

# libpq's own names, so that psql with the same environment reaches the same database.
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": os.environ["PGHOST"],
        "PORT": os.environ["PGPORT"],
        "USER": os.environ["PGUSER"],
        "PASSWORD": os.environ["PGPASSWORD"],
        "NAME": os.environ["PGDATABASE"],
        # One connection per worker for life; a broken one is dropped at the end of the request that found it.
        "CONN_MAX_AGE": None,
    }
}

# Where there is no Redis nothing is kept: the cache that Django would take instead is one for each worker.
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": os.environ["REDIS_URL"],
        # What is in it stays, until it is lost.
        "TIMEOUT": None,
    }
    if "REDIS_URL" in os.environ
    else {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}
}

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "UNAUTHENTICATED_USER": None,  # otherwise DRF wants django.contrib.auth
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "EXCEPTION_HANDLER": "orders.errors.handle",
}

# Objectives are judged at a bucket's bound, so the usual ones are bounds (0.2, 0.5, 1, 2, 5, 10 s); the library's own
# jump from 1 s to 2.5 s.
PROMETHEUS_LATENCY_BUCKETS = (
    0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.75, 1, 1.5, 2, 2.5, 3, 4, 5, 7.5, 10, 30, float("inf"),
)

USE_TZ = True
TIME_ZONE = "UTC"  # the default would move the worker's clock, log lines included, to Chicago
