-- One row: whose database this is.
CREATE TABLE identity (
    id SMALLINT NOT NULL PRIMARY KEY CHECK (id = 1),
    base_url TEXT NOT NULL,
    issuers BLOB NOT NULL
);

-- Numbers that only grow. newest_time: the newest time that a server ever wrote, Unix microseconds.
CREATE TABLE counters (
    name TEXT NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO counters (name, value) VALUES ('newest_time', 0), ('crl_number', 0), ('revocations', 0);

-- What one server at a time does for all.
CREATE TABLE duties (
    name TEXT NOT NULL PRIMARY KEY,
    lease_owner BLOB,
    lease_expires_at BIGINT NOT NULL
);
INSERT INTO duties (name, lease_expires_at) VALUES ('housekeeping', 0);

CREATE TABLE accounts (
    id BIGINT NOT NULL PRIMARY KEY,
    status TEXT NOT NULL,
    jwk TEXT NOT NULL,
    thumbprint TEXT NOT NULL UNIQUE,
    contact TEXT NOT NULL,
    terms_agreed BOOLEAN NOT NULL,
    created_at BIGINT NOT NULL
);

-- Every thumbprint that an account ever had: a TXT record hashed with an earlier key stays good.
CREATE TABLE account_thumbprints (
    account_id BIGINT NOT NULL REFERENCES accounts (id),
    thumbprint TEXT NOT NULL,
    added_at BIGINT NOT NULL,
    PRIMARY KEY (account_id, thumbprint)
) WITHOUT ROWID;

-- An order is pending until it is finalized: whether it is ready, or can never be, is read from its authorizations.
CREATE TABLE orders (
    id BLOB NOT NULL PRIMARY KEY,
    account_id BIGINT NOT NULL REFERENCES accounts (id),
    status TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    error TEXT,
    csr_digest BLOB,
    serial BLOB,
    tbs BLOB,
    lease_token BLOB,
    lease_owner BLOB,
    lease_expires_at BIGINT,
    certificate_id BLOB
) WITHOUT ROWID;
CREATE INDEX orders_of_account ON orders (account_id, id);
-- What may be removed some time later.
CREATE INDEX orders_by_expiry ON orders (expires_at, id);
-- What is being issued.
CREATE INDEX orders_processing ON orders (id, lease_expires_at) WHERE status = 'processing';

CREATE TABLE authorizations (
    id BLOB NOT NULL PRIMARY KEY,
    account_id BIGINT NOT NULL REFERENCES accounts (id),
    identifier_kind TEXT NOT NULL,
    identifier_value TEXT NOT NULL,
    status TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL
) WITHOUT ROWID;
CREATE INDEX authorizations_of_identifier
    ON authorizations (account_id, identifier_value, identifier_kind, status, expires_at);
CREATE INDEX authorizations_by_expiry ON authorizations (expires_at, id);

CREATE TABLE order_authorizations (
    order_id BLOB NOT NULL REFERENCES orders (id),
    position SMALLINT NOT NULL,
    authorization_id BLOB NOT NULL REFERENCES authorizations (id),
    PRIMARY KEY (order_id, position)
) WITHOUT ROWID;
CREATE INDEX orders_of_authorization ON order_authorizations (authorization_id, order_id);

CREATE TABLE challenges (
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
) WITHOUT ROWID;
-- The queue of validations, by account: claims go round the accounts.
CREATE INDEX challenges_processing
    ON challenges (account_id, authorization_id, lease_expires_at) WHERE status = 'processing';

-- A certificate outlives its order, of which it is the only one.
CREATE TABLE certificates (
    id BLOB NOT NULL PRIMARY KEY,
    account_id BIGINT NOT NULL REFERENCES accounts (id),
    order_id BLOB NOT NULL UNIQUE,
    serial BLOB NOT NULL UNIQUE,
    der BLOB NOT NULL,
    chain_pem TEXT NOT NULL,
    not_before BIGINT NOT NULL,
    not_after BIGINT NOT NULL,
    revoked_at BIGINT,
    revocation_reason SMALLINT
);
CREATE INDEX certificates_by_expiry ON certificates (not_after, id);
CREATE INDEX certificates_revoked ON certificates (not_after) WHERE revoked_at IS NOT NULL;

CREATE TABLE crls (
    number BIGINT NOT NULL PRIMARY KEY,
    der BLOB NOT NULL,
    -- How many revocations it knows of, the counter's value when it was made.
    revocations BIGINT NOT NULL,
    this_update BIGINT NOT NULL,
    next_update BIGINT NOT NULL
);

-- Several replicas share the keys that seal nonces, and what was redeemed. A nonce begins with the second of its issue.
CREATE TABLE nonce_keys (
    id BIGINT NOT NULL PRIMARY KEY,
    octets BLOB NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE redeemed_nonces (
    nonce BLOB NOT NULL PRIMARY KEY,
    owner BLOB NOT NULL
) WITHOUT ROWID;
