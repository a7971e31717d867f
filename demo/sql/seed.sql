-- 100 agencies, 50,000 accounts with a debtor each, 500,000 payments. Sent as one message it is one transaction, which is
-- why the `vacuum analyze` that should follow is not in here: it has to be a message of its own.
set statement_timeout = '60s';

insert into accounts_agency
    select i, 'Agency ' || i from generate_series(1, 100) i;
insert into accounts_debtor
    select i, 'Debtor ' || i, 'ref-' || i from generate_series(1, 50000) i;
-- i/4: the agency must not follow from the status, or some lists would be empty.
insert into accounts_account
    select i, 1 + (i / 4) % 100, i, (array['new', 'assigned', 'paid', 'closed'])[1 + i % 4], 1000, now() - i * interval '1 min'
    from generate_series(1, 50000) i;
insert into payments_payment (account_id, amount, status, created_at)
    select 1 + (i * 7919) % 50000, (i % 500) + 0.5, 'completed', now() - i * interval '10 s'
    from generate_series(1::bigint, 500000) i;

create index on accounts_account (agency_id, created_at desc);
create index on payments_payment (status, created_at desc);
