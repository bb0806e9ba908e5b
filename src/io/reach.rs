//! Which addresses requests of users may reach: those of this machine and of private networks as `basic.enablePrivateNet`
//! says, and never those behind which clouds keep what no request should see.

use std::io;
use std::net::IpAddr;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Why an address is not reached, or nothing where it is. `private`: those of this machine and of private networks are.
pub fn refusal(ip: IpAddr, private: bool) -> Option<String> {
    let (never, inner) = match ip.to_canonical() {
        IpAddr::V4(ip) => (
            ip.is_link_local() || ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast(),
            ip.is_loopback() || ip.is_private(),
        ),
        IpAddr::V6(ip) => (
            ip.is_unicast_link_local() || ip.is_unspecified() || ip.is_multicast(),
            ip.is_loopback() || ip.is_unique_local(),
        ),
    };
    match (never, inner && !private) {
        (true, _) => Some(format!("ip {ip} is link-local, unspecified or multicast, which is not allowed")),
        (false, true) => Some(format!("ip {ip} is in internal network; `basic.enablePrivateNet: true` allows it")),
        (false, false) => None,
    }
}

/// Looks names up, and gives only addresses that may be reached: those that were checked are the ones that are used.
pub(super) struct Resolver {
    /// `basic.enablePrivateNet`
    pub(super) private: bool,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let private = self.private;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await;
            let found: Vec<_> =
                found.map_err(|_| io::Error::other(format!("nobody knows the host `{}`", name.as_str())))?.collect();
            match found.iter().find_map(|address| refusal(address.ip(), private)) {
                Some(why) => Err(io::Error::other(why).into()),
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
    fn private_addresses_are_asked_where_that_is_allowed_and_link_local_ones_never() {
        for (ip, inner, never) in [
            ("93.184.216.34", false, false),
            ("2606:2800:220:1::1", false, false),
            ("127.0.0.1", true, false),
            ("192.168.1.5", true, false),
            ("10.0.0.1", true, false),
            ("172.16.3.4", true, false),
            ("::1", true, false),
            ("fd00::1", true, false),
            ("::ffff:10.0.0.1", true, false),
            ("169.254.169.254", false, true),
            ("::ffff:169.254.169.254", false, true),
            ("fe80::1", false, true),
            ("0.0.0.0", false, true),
            ("224.0.0.1", false, true),
        ] {
            let ip: IpAddr = ip.parse().unwrap();
            assert_eq!(refusal(ip, true).is_some(), never, "{ip}");
            assert_eq!(refusal(ip, false).is_some(), never || inner, "{ip}");
        }
        let why = refusal("10.0.0.1".parse().unwrap(), false).unwrap();
        assert!(why.starts_with("ip 10.0.0.1 is in internal network"), "{why}");
    }
}
