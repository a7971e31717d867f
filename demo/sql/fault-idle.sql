-- IdleInTransaction, run by `reporting`: somebody tries something at a console, looks at one row, and goes to lunch before
-- the commit. The last statement is innocent and long over; what hurts is the first one's row locks.
begin;
update accounts_account set balance = balance where id <= 1000;
select balance from accounts_account where id = 1;
