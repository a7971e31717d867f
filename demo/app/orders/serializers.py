from rest_framework import serializers

from orders import portfolios
from orders.models import Account, Payment


class AccountSerializer(serializers.ModelSerializer):
    debtor = serializers.CharField(source="debtor.full_name")
    external_ref = serializers.CharField(source="debtor.external_ref")

    class Meta:
        model = Account
        fields = ["id", "agency_id", "debtor", "external_ref", "status", "balance", "created_at"]


class AccountDetailSerializer(AccountSerializer):
    agency = serializers.CharField(source="agency.name")
    portfolio = serializers.SerializerMethodField()

    class Meta(AccountSerializer.Meta):
        fields = [*AccountSerializer.Meta.fields, "agency", "portfolio"]

    def get_portfolio(self, account):
        return portfolios.known(account.agency_id)


class TransactionSerializer(serializers.ModelSerializer):
    class Meta:
        model = Payment
        fields = ["id", "account", "amount", "status", "created_at"]
        read_only_fields = ["status", "created_at"]


class PortfolioSerializer(serializers.Serializer):
    agency = serializers.IntegerField()
    payments = serializers.IntegerField()
    paid = serializers.DecimalField(max_digits=None, decimal_places=2)
