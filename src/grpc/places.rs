//! Places for connections: so many in all, and so many for one address, lest a single peer take them all.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::metrics::gauge::Gauge;

/// A host gets a whole network of IPv6 addresses as a rule, of this many bits, and may speak from each of them.
const IPV6_NETWORK_BITS: u32 = 64;

/// Hands places out and takes them back.
pub(super) struct Places {
    max: usize,
    max_per_address: usize,
    taken: Arc<Mutex<Taken>>,
    /// `intentd_grpc_connections`.
    open: Gauge,
}

#[derive(Default)]
struct Taken {
    all: usize,
    /// No address stays here without a place.
    by_address: HashMap<IpAddr, usize>,
}

/// Why there is none; the name of the setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full(pub(super) &'static str);

/// One of the places, until it is dropped.
pub(super) struct Place {
    address: IpAddr,
    taken: Arc<Mutex<Taken>>,
    open: Gauge,
}

impl Places {
    pub(super) fn new(max: usize, max_per_address: usize, open: Gauge) -> Self {
        Self { max, max_per_address, taken: Arc::default(), open }
    }

    pub(super) fn take(&self, peer: IpAddr) -> Result<Place, Full> {
        let address = network(peer);
        let mut taken = lock(&self.taken);
        if taken.all >= self.max {
            return Err(Full("max_connections"));
        }
        let of_address = taken.by_address.get(&address).copied().unwrap_or_default();
        if of_address >= self.max_per_address {
            return Err(Full("max_connections_per_address"));
        }
        taken.by_address.insert(address, of_address + 1);
        taken.all += 1;
        self.open.inc();
        Ok(Place { address, taken: Arc::clone(&self.taken), open: self.open.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        taken.all -= 1;
        if let Some(of_address) = taken.by_address.get_mut(&self.address) {
            *of_address -= 1;
            if *of_address == 0 {
                taken.by_address.remove(&self.address);
            }
        }
        self.open.dec();
    }
}

fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What counts as one address. A socket for both families shows an IPv4 peer as an IPv6 address.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => {
            let mask = u128::MAX << (128 - IPV6_NETWORK_BITS);
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_address_leaves_places_to_others_and_gets_its_own_back() {
        let places = Places::new(3, 2, Gauge::default());
        let greedy = ip("192.0.2.1");
        let first = places.take(greedy).unwrap();
        let _second = places.take(greedy).unwrap();
        assert_eq!(places.take(greedy).err(), Some(Full("max_connections_per_address")));
        let other = places.take(ip("192.0.2.2")).unwrap();
        assert_eq!(places.take(ip("192.0.2.3")).err(), Some(Full("max_connections")));
        drop(first);
        assert!(places.take(greedy).is_ok());
        drop(other);
        assert_eq!(lock(&places.taken).by_address.len(), 1, "an address without places is forgotten");
        assert_eq!(places.open.get(), 1);
    }

    #[test]
    fn an_ipv6_network_and_a_mapped_ipv4_address_count_as_one() {
        for (a, b, one) in [
            ("2001:db8:0:1::1", "2001:db8:0:1:ffff::9", true),
            ("2001:db8:0:1::1", "2001:db8:0:2::1", false),
            ("::ffff:192.0.2.1", "192.0.2.1", true),
            ("::ffff:192.0.2.1", "::ffff:192.0.2.2", false),
            ("127.0.0.1", "::1", false),
        ] {
            assert_eq!(network(ip(a)) == network(ip(b)), one, "{a} and {b}");
        }
    }
}
