-- RunawayQuery, run by `reporting`: a report without its join condition, on every parallel worker it can get.
-- The database has one CPU (demo/README.md): 36 workers and their leader leave the application a small, even share of it.
set max_parallel_workers_per_gather = 36;
select count(*) from payments_payment p, generate_series(1, 100000) g where md5(p.amount::text || g) < '0';
