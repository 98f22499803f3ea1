//! The setting of most tests: a name with addresses, and nothing at them yet.

use akamu_challenge::AddressPolicy;

use crate::formats::setting::Setting;

impl Setting {
    /// One in which `example.com` has these addresses.
    pub(crate) fn of_example_com(addresses: &[&str]) -> Self {
        let it = Self::with_policy(AddressPolicy::default());
        it.names.set_addresses("example.com", Ok(addresses.iter().map(|it| it.parse().unwrap()).collect()));
        it
    }
}
