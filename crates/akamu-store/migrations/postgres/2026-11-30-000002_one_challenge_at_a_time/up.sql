-- The queue of validations, by account: claims go round the accounts. An authorization has one challenge in it at most.
DROP INDEX challenges_processing;
CREATE UNIQUE INDEX challenges_processing
    ON challenges (account_id, authorization_id) INCLUDE (lease_expires_at) WHERE status = 'processing';
