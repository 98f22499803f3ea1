//! The tables, with types that both databases have. Times are Unix microseconds.

diesel::table! {
    identity (id) {
        id -> SmallInt,
        base_url -> Text,
        issuers -> Binary,
    }
}

diesel::table! {
    counters (name) {
        name -> Text,
        value -> BigInt,
    }
}

diesel::table! {
    duties (name) {
        name -> Text,
        lease_owner -> Nullable<Binary>,
        lease_expires_at -> BigInt,
    }
}

diesel::table! {
    accounts (id) {
        id -> BigInt,
        status -> Text,
        jwk -> Text,
        thumbprint -> Text,
        contact -> Text,
        terms_agreed -> Bool,
        created_at -> BigInt,
    }
}

diesel::table! {
    account_thumbprints (account_id, thumbprint) {
        account_id -> BigInt,
        thumbprint -> Text,
        added_at -> BigInt,
    }
}

diesel::table! {
    orders (id) {
        id -> Binary,
        account_id -> BigInt,
        status -> Text,
        expires_at -> BigInt,
        created_at -> BigInt,
        error -> Nullable<Text>,
        csr_digest -> Nullable<Binary>,
        serial -> Nullable<Binary>,
        tbs -> Nullable<Binary>,
        lease_token -> Nullable<Binary>,
        lease_owner -> Nullable<Binary>,
        lease_expires_at -> Nullable<BigInt>,
    }
}

diesel::table! {
    authorizations (id) {
        id -> Binary,
        account_id -> BigInt,
        identifier_kind -> Text,
        identifier_value -> Text,
        status -> Text,
        expires_at -> BigInt,
        created_at -> BigInt,
    }
}

diesel::table! {
    order_authorizations (order_id, position) {
        order_id -> Binary,
        position -> SmallInt,
        authorization_id -> Binary,
    }
}

diesel::table! {
    challenges (authorization_id, challenge_type) {
        authorization_id -> Binary,
        challenge_type -> Text,
        account_id -> BigInt,
        position -> SmallInt,
        token -> Nullable<Text>,
        status -> Text,
        key_auth -> Nullable<Text>,
        attempt -> SmallInt,
        lease_token -> Nullable<Binary>,
        lease_owner -> Nullable<Binary>,
        lease_expires_at -> Nullable<BigInt>,
        validated_at -> Nullable<BigInt>,
        error -> Nullable<Text>,
        reported_at -> Nullable<BigInt>,
        report -> Nullable<Binary>,
    }
}

diesel::table! {
    chains (id) {
        id -> Binary,
        pem -> Text,
    }
}

diesel::table! {
    certificates (serial) {
        serial -> Binary,
        account_id -> BigInt,
        order_id -> Binary,
        der -> Binary,
        chain -> Binary,
        not_before -> BigInt,
        not_after -> BigInt,
        revoked_at -> Nullable<BigInt>,
        revocation_reason -> Nullable<SmallInt>,
    }
}

diesel::table! {
    crls (number) {
        number -> BigInt,
        der -> Binary,
        revocations -> BigInt,
        this_update -> BigInt,
        next_update -> BigInt,
    }
}

diesel::table! {
    nonce_keys (id) {
        id -> BigInt,
        octets -> Binary,
        created_at -> BigInt,
    }
}

diesel::table! {
    redeemed_nonces (nonce) {
        nonce -> Binary,
        owner -> Binary,
    }
}

diesel::allow_tables_to_appear_in_same_query!(
    identity,
    counters,
    duties,
    chains,
    accounts,
    account_thumbprints,
    orders,
    authorizations,
    order_authorizations,
    challenges,
    certificates,
    crls,
    nonce_keys,
    redeemed_nonces,
);

diesel::joinable!(order_authorizations -> authorizations (authorization_id));
diesel::joinable!(order_authorizations -> orders (order_id));
diesel::joinable!(challenges -> authorizations (authorization_id));
diesel::joinable!(authorizations -> accounts (account_id));
diesel::joinable!(orders -> accounts (account_id));
diesel::joinable!(certificates -> accounts (account_id));
diesel::joinable!(certificates -> chains (chain));
