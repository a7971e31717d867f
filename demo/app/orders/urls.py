from django.urls import path

from orders import views

# The names are the `view` label of django-prometheus.
urlpatterns = [
    path("api/health", views.health, name="health"),
    path("api/v1/accounts", views.AccountList.as_view(), name="account-list"),
    path("api/v1/accounts/<int:pk>", views.AccountDetail.as_view(), name="account-detail"),
    path("api/v1/portfolios", views.PortfolioList.as_view(), name="portfolio-list"),
    path("api/v1/portfolios/<int:agency>", views.PortfolioDetail.as_view(), name="portfolio-detail"),
    path("api/v1/transactions", views.TransactionCreate.as_view(), name="transaction-create"),
    path("api/v1/market/quote", views.market_quote, name="market-quote"),
]
