//! Which addresses requests of users may reach: those of this machine and of private networks, for that is where an edge
//! has its neighbours, and not those behind which clouds keep what no request should see.

use std::io;
use std::net::IpAddr;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Addresses behind which clouds keep what no request should reach, and those that name no one host.
pub fn is_refused(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local() || ip.is_unspecified() || ip.is_multicast(),
    }
}

/// Why an address is not reached.
pub(super) fn refusal(ip: IpAddr) -> String {
    format!("ip {ip} is link-local, unspecified or multicast, which is not allowed")
}

/// Looks names up, and gives only addresses that may be reached: those that were checked are the ones that are used.
pub(super) struct Resolver;

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await;
            let found: Vec<_> =
                found.map_err(|_| io::Error::other(format!("nobody knows the host `{}`", name.as_str())))?.collect();
            match found.iter().find(|address| is_refused(address.ip())) {
                Some(address) => Err(io::Error::other(refusal(address.ip())).into()),
                None => Ok(Box::new(found.into_iter()) as Addrs),
            }
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses_may_be_asked_and_link_local_ones_not() {
        for (ip, refused) in [
            ("127.0.0.1", false),
            ("192.168.1.5", false),
            ("10.0.0.1", false),
            ("::1", false),
            ("169.254.169.254", true),
            ("::ffff:169.254.169.254", true),
            ("fe80::1", true),
            ("0.0.0.0", true),
            ("224.0.0.1", true),
        ] {
            assert_eq!(is_refused(ip.parse().unwrap()), refused, "{ip}");
        }
    }
}
