-- An account's number is its place in the table: one tree to walk down at each request, not two.
CREATE TABLE new_accounts (
    id INTEGER NOT NULL PRIMARY KEY,
    status TEXT NOT NULL,
    jwk TEXT NOT NULL,
    thumbprint TEXT NOT NULL UNIQUE,
    contact TEXT NOT NULL,
    terms_agreed BOOLEAN NOT NULL,
    created_at BIGINT NOT NULL
);
INSERT INTO new_accounts (id, status, jwk, thumbprint, contact, terms_agreed, created_at)
    SELECT id, status, jwk, thumbprint, contact, terms_agreed, created_at FROM accounts ORDER BY id;
DROP TABLE accounts;
ALTER TABLE new_accounts RENAME TO accounts;

-- With a rowid: where rows of a table without are longer than a quarter of a page, as those with a report are, SQLite reads
-- each of them whole, from pages of their own, to compare it with what it looks for.
CREATE TABLE new_challenges (
    authorization_id BLOB NOT NULL REFERENCES authorizations (id),
    challenge_type TEXT NOT NULL,
    account_id BIGINT NOT NULL,
    position SMALLINT NOT NULL,
    token TEXT,
    status TEXT NOT NULL,
    key_auth TEXT,
    attempt SMALLINT NOT NULL,
    lease_token BLOB,
    lease_owner BLOB,
    lease_expires_at BIGINT,
    validated_at BIGINT,
    error TEXT,
    -- Of the last attempt that came to an end. Last, so that who reads a challenge does not read it.
    reported_at BIGINT,
    report BLOB,
    PRIMARY KEY (authorization_id, challenge_type)
);
INSERT INTO new_challenges
    (authorization_id, challenge_type, account_id, position, token, status, key_auth, attempt, lease_token, lease_owner,
        lease_expires_at, validated_at, error, reported_at, report)
    SELECT authorization_id, challenge_type, account_id, position, token, status, key_auth, attempt, lease_token,
        lease_owner, lease_expires_at, validated_at, error, reported_at, report
    FROM challenges ORDER BY authorization_id, challenge_type;
DROP TABLE challenges;
ALTER TABLE new_challenges RENAME TO challenges;
CREATE UNIQUE INDEX challenges_processing
    ON challenges (account_id, authorization_id) WHERE status = 'processing';

-- By its identifier only an authorization is looked for that is valid.
DROP INDEX authorizations_of_identifier;
CREATE INDEX authorizations_of_identifier
    ON authorizations (account_id, identifier_value, identifier_kind, expires_at) WHERE status = 'valid';

-- What is sent after a leaf, PEM: once for all that one issuer signs. The id is its SHA-256, but for what each
-- certificate had of its own before.
CREATE TABLE chains (
    id BLOB NOT NULL PRIMARY KEY,
    pem TEXT NOT NULL
);
INSERT INTO chains (id, pem)
    SELECT CAST('before ' || row_number() OVER (ORDER BY pem) AS BLOB), pem
    FROM (SELECT DISTINCT substr(chain_pem, instr(chain_pem, '-----END CERTIFICATE-----') + 26) AS pem FROM certificates);

-- A certificate outlives its order, of which it is the only one. The order has its serial number before anything is signed.
CREATE TABLE new_certificates (
    serial BLOB NOT NULL PRIMARY KEY,
    account_id BIGINT NOT NULL REFERENCES accounts (id),
    order_id BLOB NOT NULL UNIQUE,
    der BLOB NOT NULL,
    -- One of chains, of which none is ever removed.
    chain BLOB NOT NULL,
    not_before BIGINT NOT NULL,
    not_after BIGINT NOT NULL,
    revoked_at BIGINT,
    revocation_reason SMALLINT
);
INSERT INTO new_certificates
    (serial, account_id, order_id, der, chain, not_before, not_after, revoked_at, revocation_reason)
    SELECT serial, account_id, order_id, der,
        (SELECT id FROM chains WHERE pem = substr(chain_pem, instr(chain_pem, '-----END CERTIFICATE-----') + 26)),
        not_before, not_after, revoked_at, revocation_reason
    FROM certificates ORDER BY serial;
DROP TABLE certificates;
ALTER TABLE new_certificates RENAME TO certificates;
CREATE INDEX certificates_by_expiry ON certificates (not_after, serial);
CREATE INDEX certificates_revoked ON certificates (not_after) WHERE revoked_at IS NOT NULL;
ALTER TABLE orders DROP COLUMN certificate_id;
