-- BlockingQuery, run by `reporting`: a batch that updates the rows that every payment needs, then goes on with a long
-- report in the same transaction: an active statement that holds row locks. Not parallel: it shall hurt by its locks only.
begin;
set local max_parallel_workers_per_gather = 0;
update accounts_account set balance = balance where id <= 1000;
select count(*) from payments_payment p, generate_series(1, 100000) g where md5(p.amount::text || g) < '0';
commit;
