-- For the demo of the cold cache, after seed.sql: an older shop. With so many more payments, adding up what the accounts of
-- one agency have paid takes so long that nobody would do it for each request.
set statement_timeout = '60s';

insert into payments_payment (account_id, amount, status, created_at)
    select 1 + (i * 7919) % 50000, (i % 500) + 0.5, 'completed', now() - i * interval '10 s'
    from generate_series(500001::bigint, 1500000) i;
