//! A validator's question for TXT records, and what the client is told where there are none.

use akamu_proto::{DnsName, ErrorType, Identifier};

use crate::{ChallengeError, Deadline, LookupError, Resolver, Transcript, TxtRecord};

/// The longest name in the DNS (RFC 1035 §2.3.4), written with dots.
const MAX_NAME: usize = 253;

/// How many verdicts on records stand in a report; the first that accepts always does.
pub(crate) const MAX_VERDICTS: usize = 64;

/// Whether `prefix` and a dot fit before the identifier's name. An address has no name.
pub(crate) fn fits(prefix: &str, identifier: &Identifier) -> bool {
    identifier.base_domain().is_some_and(|it| prefix.len() + 1 + it.as_str().len() <= MAX_NAME)
}

/// The identifier's name, a wildcard's without its `*.`; an error where `prefix` cannot stand before it.
pub(crate) fn base_domain<'a>(prefix: &str, identifier: &'a Identifier) -> Result<&'a DnsName, ChallengeError> {
    let malformed = |detail: String| ChallengeError::new(ErrorType::Malformed, detail);
    let Some(name) = identifier.base_domain() else {
        return Err(malformed(format!("{identifier} is an address, which the DNS proves nothing about")));
    };
    if !fits(prefix, identifier) {
        return Err(malformed(format!("{prefix}.{name} is longer than a name in the DNS may be")));
    }
    Ok(name)
}

/// Asks for the TXT records of `name`, which is `identifier`'s with a label before it, and records what was seen.
pub(crate) async fn look_up_txt(
    resolver: &dyn Resolver,
    name: &str,
    identifier: &Identifier,
    deadline: Deadline,
    transcript: &mut Transcript,
) -> Result<Vec<TxtRecord>, ChallengeError> {
    let lookup = resolver.txt(name, deadline).await;
    lookup.steps.into_iter().for_each(|step| transcript.record(step));
    lookup.outcome.map_err(|error| {
        let mut detail = match error {
            LookupError::NxDomain => format!("{name} does not exist (NXDOMAIN); a TXT record is expected there"),
            LookupError::NoData => format!("{name} has no TXT record"),
            ref error => format!("the TXT records of {name} could not be looked up: {error}"),
        };
        if error.is_absence() && identifier.is_wildcard() {
            // Many write it where the wildcard's own name seems to say.
            detail.push_str("; a wildcard's record stands there too, without the *.");
        }
        ChallengeError::new(ErrorType::Dns, detail)
    })
}
