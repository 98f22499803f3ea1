-- By its identifier only an authorization is looked for that is valid.
DROP INDEX authorizations_of_identifier;
CREATE INDEX authorizations_of_identifier
    ON authorizations (account_id, identifier_value, identifier_kind, expires_at) WHERE status = 'valid';

-- What is sent after a leaf, PEM: once for all that one issuer signs. The id is its SHA-256, but for what each
-- certificate had of its own before.
CREATE TABLE chains (
    id BYTEA NOT NULL PRIMARY KEY,
    pem TEXT NOT NULL
);
INSERT INTO chains (id, pem)
    SELECT convert_to('before ' || row_number() OVER (ORDER BY pem), 'UTF8'), pem
    FROM (
        SELECT DISTINCT substr(chain_pem, strpos(chain_pem, '-----END CERTIFICATE-----') + 26) AS pem FROM certificates
    ) AS before;

-- A certificate outlives its order, of which it is the only one. The order has its serial number before anything is signed.
ALTER TABLE certificates RENAME TO old_certificates;
CREATE TABLE certificates (
    serial BYTEA NOT NULL,
    account_id BIGINT NOT NULL REFERENCES accounts (id),
    order_id BYTEA NOT NULL,
    der BYTEA NOT NULL,
    -- One of chains, of which none is ever removed.
    chain BYTEA NOT NULL,
    not_before BIGINT NOT NULL,
    not_after BIGINT NOT NULL,
    revoked_at BIGINT,
    revocation_reason SMALLINT
);
INSERT INTO certificates
    (serial, account_id, order_id, der, chain, not_before, not_after, revoked_at, revocation_reason)
    SELECT serial, account_id, order_id, der, chains.id, not_before, not_after, revoked_at, revocation_reason
    FROM old_certificates
    JOIN chains ON pem = substr(chain_pem, strpos(chain_pem, '-----END CERTIFICATE-----') + 26);
DROP TABLE old_certificates;
ALTER TABLE certificates ADD PRIMARY KEY (serial), ADD UNIQUE (order_id);
CREATE INDEX certificates_by_expiry ON certificates (not_after, serial);
CREATE INDEX certificates_revoked ON certificates (not_after) WHERE revoked_at IS NOT NULL;
ALTER TABLE orders DROP COLUMN certificate_id;
