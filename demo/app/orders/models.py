"""The tables of demo/sql/schema.sql, which owns them: nothing here migrates."""

from django.db import models


class Agency(models.Model):
    id = models.IntegerField(primary_key=True)
    name = models.TextField()

    class Meta:
        managed = False
        db_table = "accounts_agency"


class Debtor(models.Model):
    id = models.IntegerField(primary_key=True)
    full_name = models.TextField()
    external_ref = models.TextField()

    class Meta:
        managed = False
        db_table = "accounts_debtor"


class Account(models.Model):
    id = models.IntegerField(primary_key=True)
    agency = models.ForeignKey(Agency, models.DO_NOTHING)
    debtor = models.ForeignKey(Debtor, models.DO_NOTHING)
    status = models.TextField()
    balance = models.DecimalField(max_digits=12, decimal_places=2)
    created_at = models.DateTimeField()

    class Meta:
        managed = False
        db_table = "accounts_account"


class Payment(models.Model):
    id = models.BigAutoField(primary_key=True)
    account = models.ForeignKey(Account, models.DO_NOTHING)
    amount = models.DecimalField(max_digits=12, decimal_places=2)
    status = models.TextField()
    created_at = models.DateTimeField()

    class Meta:
        managed = False
        db_table = "payments_payment"
