-- Nobody asks for the orders of an account; each order had a place to be found for it among those of its account.
DROP INDEX orders_of_account;
