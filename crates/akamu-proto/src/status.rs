//! The states of RFC 8555 §7.1.6 and the revocation reasons of RFC 5280 §5.3.1.

use serde::{Deserialize, Serialize};

macro_rules! status {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $text)] $variant,)*
        }

        impl $name {
            /// Every state.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The word on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }

            /// The state with this word.
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($text => Some(Self::$variant),)* _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

status! {
    /// The state of an account (RFC 8555 §7.1.2).
    AccountStatus {
        /// May be used.
        Valid = "valid",
        /// Closed by its holder (§7.3.6).
        Deactivated = "deactivated",
        /// Closed by the server.
        Revoked = "revoked",
    }
}

status! {
    /// The state of an order (RFC 8555 §7.1.3).
    OrderStatus {
        /// Waits for its authorizations.
        Pending = "pending",
        /// Every authorization is valid: may be finalized.
        Ready = "ready",
        /// Finalized; the certificate is being made.
        Processing = "processing",
        /// The certificate is there.
        Valid = "valid",
        /// Failed or expired; its `error` says why.
        Invalid = "invalid",
    }
}

status! {
    /// The state of an authorization (RFC 8555 §7.1.4). There is no word for `processing` here.
    AuthorizationStatus {
        /// No challenge has been decided yet.
        Pending = "pending",
        /// A challenge succeeded.
        Valid = "valid",
        /// A challenge failed.
        Invalid = "invalid",
        /// Given up by its holder (§7.5.2).
        Deactivated = "deactivated",
        /// Its time is over. Never sent: a client gets 404, because certbot refuses the word.
        Expired = "expired",
        /// Taken back by the server.
        Revoked = "revoked",
    }
}

status! {
    /// The state of a challenge (RFC 8555 §7.1.5).
    ChallengeStatus {
        /// Not yet answered by the client.
        Pending = "pending",
        /// Answered; the validation waits or runs.
        Processing = "processing",
        /// The validation succeeded.
        Valid = "valid",
        /// The validation failed; its `error` says why.
        Invalid = "invalid",
    }
}

/// Why a certificate was revoked: the codes of RFC 5280 §5.3.1 that a client may give (RFC 8555 §7.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RevocationReason {
    /// 0
    Unspecified,
    /// 1
    KeyCompromise,
    /// 3
    AffiliationChanged,
    /// 4
    Superseded,
    /// 5
    CessationOfOperation,
    /// 9
    PrivilegeWithdrawn,
}

impl RevocationReason {
    /// The reason with this code, where a client may give it: 2, 6, 7, 8, 10 and above are refused.
    pub const fn from_code(code: i64) -> Option<Self> {
        Some(match code {
            0 => Self::Unspecified,
            1 => Self::KeyCompromise,
            3 => Self::AffiliationChanged,
            4 => Self::Superseded,
            5 => Self::CessationOfOperation,
            9 => Self::PrivilegeWithdrawn,
            _ => return None,
        })
    }

    /// The code of CRLReason.
    pub const fn code(self) -> u8 {
        match self {
            Self::Unspecified => 0,
            Self::KeyCompromise => 1,
            Self::AffiliationChanged => 3,
            Self::Superseded => 4,
            Self::CessationOfOperation => 5,
            Self::PrivilegeWithdrawn => 9,
        }
    }
}
