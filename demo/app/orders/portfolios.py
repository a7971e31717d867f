"""What an agency's accounts have paid: expensive to add up, and so kept in the cache."""

from django.core.cache import cache
from django.db.models import Count, F, Sum

from orders.models import Payment

TOTALS = Payment.objects.values(agency=F("account__agency")).annotate(payments=Count("id"), paid=Sum("amount"))


def _key(agency):
    return f"portfolio:{agency}"


def all_of_them():
    """Adds up those of all agencies at once, and stores them: this is what fills the cache."""
    totals = list(TOTALS.order_by("agency"))
    cache.set_many({_key(one["agency"]): one for one in totals})
    return totals


def one(agency):
    """Those of one agency, added up where the cache has lost them; `None` where there is no such agency.

    They are not stored then: a cache that is filled key by key while everybody waits for it keeps everybody waiting, so
    only the list does that.
    """
    return known(agency) or next(iter(TOTALS.filter(agency=agency)), None)


def known(agency):
    """The same, if the cache has them: where they are shown beside something else, nobody waits for them."""
    return cache.get(_key(agency))
