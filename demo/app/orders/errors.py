"""What a client sees when the database refuses."""

from django.db import OperationalError
from rest_framework.exceptions import APIException
from rest_framework.views import exception_handler


class DatabaseBusy(APIException):
    status_code = 503
    default_detail = "The database is busy."


def handle(error, context):
    """Answer lock and statement timeouts, cancelled statements and lost connections with a 503.

    An error that left the view would be a 500, and django-prometheus would count the request twice.
    """
    if isinstance(error, OperationalError):
        error = DatabaseBusy()
    return exception_handler(error, context)
