DROP INDEX challenges_processing;
CREATE INDEX challenges_processing
    ON challenges (account_id, authorization_id, lease_expires_at) WHERE status = 'processing';
