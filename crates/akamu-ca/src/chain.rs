//! The issuing certificate and its chain up to the root (RFC 5280 §6.1), checked once, when the issuer is loaded.

use akamu_proto::{Identifier, Timestamp};
use der::asn1::ObjectIdentifier;
use der::{Decode as _, Encode as _};
use x509_cert::Certificate;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage};

use crate::encoding;
use crate::issuer::IssuerError;
use crate::leaf::{CLIENT_AUTH, NAME_CONSTRAINTS, SERVER_AUTH};
use crate::name_constraints::{NameConstraints, NameNotPermitted, NotUnderstood};
use crate::signed::{SignatureError, Signed};

const ANY_EXTENDED_KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37.0");

/// Checked CA certificates: the issuing one, then each one's issuer, the root last.
#[derive(Debug)]
pub(crate) struct Chain {
    issuing: CaCertificate,
    above: Vec<CaCertificate>,
    usages: Vec<ObjectIdentifier>,
    name_constraints: Vec<NameConstraints>,
}

/// A CA certificate, read.
#[derive(Debug)]
pub(crate) struct CaCertificate {
    pub(crate) der: Vec<u8>,
    pub(crate) certificate: Certificate,
    /// `None`: all.
    extended_key_usage: Option<Vec<ObjectIdentifier>>,
}

impl Chain {
    /// Checks certificates, each DER: the first is for the key with `spki_der`, each is signed by the next, the last by
    /// itself.
    pub(crate) fn new(certificates: Vec<Vec<u8>>, spki_der: &[u8], now: Timestamp) -> Result<Self, IssuerError> {
        let mut certificates = certificates
            .into_iter()
            .enumerate()
            .map(|(index, der)| CaCertificate::parse(der).ok_or(IssuerError::Unreadable { number: index + 1 }))
            .collect::<Result<Vec<_>, _>>()?
            .into_iter();
        let issuing = certificates.next().ok_or(IssuerError::Empty)?;
        let above = certificates.collect();
        let mut chain = Self { issuing, above, usages: vec![SERVER_AUTH, CLIENT_AUTH], name_constraints: Vec::new() };
        if chain.issuing.spki_der() != spki_der {
            return Err(IssuerError::OtherKey { subject: chain.issuing.subject() });
        }
        for (below, certificate) in chain.iter().enumerate() {
            certificate.check(below, now)?;
        }
        for (certificate, issuer) in chain.iter().zip(chain.iter().skip(1)) {
            certificate.check_signed_by(issuer)?;
        }
        let root = chain.root();
        if root.certificate.tbs_certificate().issuer() != root.certificate.tbs_certificate().subject() {
            let issuer = root.certificate.tbs_certificate().issuer().to_string();
            return Err(IssuerError::NoRoot { subject: root.subject(), issuer });
        }
        root.check_signed_by(root)?;
        chain.usages = chain.usages_left()?;
        chain.name_constraints =
            chain.iter().filter_map(|it| it.name_constraints().transpose()).collect::<Result<_, _>>()?;
        Ok(chain)
    }

    /// Whether a leaf with this name is within the name constraints of every certificate.
    pub(crate) fn may_certify(&self, name: &Identifier) -> Result<(), NameNotPermitted> {
        self.name_constraints.iter().try_for_each(|it| it.check(name))
    }

    /// RFC 5280 §4.2.1.12 speaks of leaves; verifiers hold what is under a CA certificate to its extended key usages too.
    fn usages_left(&self) -> Result<Vec<ObjectIdentifier>, IssuerError> {
        self.iter().try_fold(self.usages.clone(), |mut left, it| {
            left.retain(|usage| it.extended_key_usage.as_ref().is_none_or(|of| of.contains(usage)));
            if left.is_empty() { Err(IssuerError::ExtendedKeyUsage { subject: it.subject() }) } else { Ok(left) }
        })
    }

    /// The extended key usages of leaves: serverAuth and clientAuth, as far as every certificate of the chain has them.
    pub(crate) fn usages(&self) -> &[ObjectIdentifier] {
        &self.usages
    }

    fn iter(&self) -> impl Iterator<Item = &CaCertificate> {
        std::iter::once(&self.issuing).chain(&self.above)
    }

    /// The CA certificates above the issuing one that constrain names: what is under all of them must keep to each.
    pub(crate) fn name_constraining(&self) -> impl Iterator<Item = &CaCertificate> {
        self.above.iter().filter(|it| it.constrains_names())
    }

    pub(crate) const fn issuing(&self) -> &CaCertificate {
        &self.issuing
    }

    pub(crate) fn root(&self) -> &CaCertificate {
        self.above.last().unwrap_or(&self.issuing)
    }

    /// What is sent after a leaf: the root stays away where it signs nothing but intermediates, since clients have it;
    /// where it signs leaves it comes along, since certbot refuses a chain of one.
    pub(crate) fn sent(&self) -> impl Iterator<Item = &CaCertificate> {
        self.iter().take(self.above.len().max(1))
    }

    /// When the whole chain is valid: from its latest start to its earliest end.
    pub(crate) fn validity(&self) -> (Timestamp, Timestamp) {
        self.above.iter().fold(self.issuing.validity(), |(start, end), it| {
            let (not_before, not_after) = it.validity();
            (start.max(not_before), end.min(not_after))
        })
    }
}

impl CaCertificate {
    /// Reads a certificate that is the same when written again, so that its names and key may be taken from the parsed
    /// one.
    fn parse(der: Vec<u8>) -> Option<Self> {
        let certificate = Certificate::from_der(&der).ok()?;
        let extended_key_usage = certificate.tbs_certificate().get_extension::<ExtendedKeyUsage>().ok()?;
        let extended_key_usage = extended_key_usage.map(|(_, it)| it.0);
        let extended_key_usage = extended_key_usage.filter(|it| !it.contains(&ANY_EXTENDED_KEY_USAGE));
        (certificate.to_der().ok()? == der).then_some(Self { der, certificate, extended_key_usage })
    }

    pub(crate) fn subject(&self) -> String {
        self.certificate.tbs_certificate().subject().to_string()
    }

    pub(crate) fn spki_der(&self) -> Vec<u8> {
        // It has been read from DER, so it can be written.
        self.certificate.tbs_certificate().subject_public_key_info().to_der().unwrap_or_default()
    }

    pub(crate) fn validity(&self) -> (Timestamp, Timestamp) {
        encoding::validity(&self.certificate)
    }

    fn constrains_names(&self) -> bool {
        self.certificate.tbs_certificate().extensions().into_iter().flatten().any(|it| it.extn_id == NAME_CONSTRAINTS)
    }

    fn name_constraints(&self) -> Result<Option<NameConstraints>, IssuerError> {
        let not_understood = |NotUnderstood(what)| IssuerError::NameConstraints { subject: self.subject(), what };
        NameConstraints::of(&self.certificate).map_err(not_understood)
    }

    /// Whether it may sign what is here: `below` CA certificates between it and a leaf.
    fn check(&self, below: usize, now: Timestamp) -> Result<(), IssuerError> {
        let tbs = self.certificate.tbs_certificate();
        let subject = || self.subject();
        let constraints = tbs.get_extension::<BasicConstraints>().ok().flatten().map(|(_, it)| it);
        let constraints = constraints.filter(|it| it.ca).ok_or_else(|| IssuerError::NotACa { subject: subject() })?;
        if constraints.path_len_constraint.is_some_and(|it| usize::from(it) < below) {
            return Err(IssuerError::PathTooLong { subject: subject() });
        }
        let usage = tbs.get_extension::<KeyUsage>().map_err(|_| IssuerError::NotACa { subject: subject() })?;
        if let Some((_, usage)) = usage {
            if !usage.key_cert_sign() {
                return Err(IssuerError::KeyUsage { subject: subject(), missing: "keyCertSign" });
            }
            if below == 0 && !usage.crl_sign() {
                return Err(IssuerError::KeyUsage { subject: subject(), missing: "cRLSign" });
            }
        }
        let (not_before, not_after) = self.validity();
        if now < not_before || now > not_after {
            return Err(IssuerError::OutOfTime { subject: subject(), not_before, not_after, now });
        }
        Ok(())
    }

    fn check_signed_by(&self, issuer: &Self) -> Result<(), IssuerError> {
        let (subject, issuer_subject) = (self.subject(), issuer.subject());
        let names_match = self.certificate.tbs_certificate().issuer() == issuer.certificate.tbs_certificate().subject();
        let signature =
            Signed::parse(&self.der).map_err(|_| SignatureError::Wrong).and_then(|it| it.verify(&issuer.spki_der()));
        match signature {
            Ok(()) if names_match => Ok(()),
            Err(SignatureError::Algorithm) if names_match => Err(IssuerError::SignatureAlgorithm { subject }),
            _ => Err(IssuerError::BrokenChain { subject, issuer: issuer_subject }),
        }
    }
}
