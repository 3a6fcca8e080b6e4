use super::route::{Manner, scope};
use super::rule::Query;
use super::*;

fn v4(a: u8, b: u8, c: u8, d: u8) -> Ip {
    Ip::v4(u32::from_be_bytes([a, b, c, d]))
}

#[test]
fn an_address_counts_while_its_interface_is_up() {
    let mut links = Links::new(true);
    let d = links.add_dummy(b"d0", 0, None, 1500).expect("room");
    assert_eq!(links.add_dummy(b"d0", 0, None, 1500), Err(Errno::EEXIST));
    let ip = v4(10, 1, 1, 1);
    let address = Address { scope: scope::UNIVERSE, ..Address::own(ip, 24) };
    links.add_address(d, address.clone(), false).expect("new");
    assert!(!links.is_local(ip));
    links.set_up(d, true);
    assert!(links.is_local(ip) && !links.is_local(v4(10, 1, 1, 2)) && links.is_broadcast(v4(10, 1, 1, 255)));
    assert!(matches!(links.lookup(&Query::to(v4(10, 1, 1, 2))), Ok(Via::Out(r)) if r.source == Some(ip)));
    assert_eq!(links.add_address(d, address, false).map_err(|r| r.0), Err(Errno::EEXIST));
    links.remove_address(d, ip, Some(24)).expect("there");
    assert!(!links.is_local(ip));
    assert_eq!(links.lookup(&Query::to(v4(10, 1, 1, 2))), Err(Errno::ENETUNREACH));
    links.remove(d).expect("there");
    assert!(links.routes().all(|r| r.device == LOOPBACK));
}

#[test]
fn the_longest_prefix_and_the_lowest_metric_decide() {
    let mut links = Links::new(true);
    let d = links.add_dummy(b"dummy%d", 0, None, 1500).expect("room");
    links.set_up(d, true);
    let new = Manner { exclusive: true, create: true, ..Manner::default() };
    let mut add = |net: Ip, prefix: u8, metric: u32, kind: RouteKind| {
        let r = Route { metric, ..Route::new((net, prefix), table::MAIN, kind, d) };
        links.add_route(r, new).map(drop).map_err(|r| r.0)
    };
    assert_eq!(add(v4(10, 0, 0, 0), 8, 0, RouteKind::Unicast), Ok(()));
    assert_eq!(add(v4(10, 0, 0, 0), 8, 0, RouteKind::Unicast), Err(Errno::EEXIST));
    assert_eq!(add(v4(10, 1, 0, 0), 16, 0, RouteKind::Unreachable), Ok(()));
    assert_eq!(add(v4(10, 1, 2, 0), 24, 5, RouteKind::Prohibit), Ok(()));
    let to = |links: &Links, ip| links.lookup(&Query::to(ip)).map(drop);
    assert_eq!(to(&links, v4(10, 9, 9, 9)), Ok(()));
    assert_eq!(to(&links, v4(10, 1, 9, 9)), Err(Errno::EHOSTUNREACH));
    assert_eq!(to(&links, v4(10, 1, 2, 9)), Err(Errno::EACCES));
    let throw = Rule { to: Some((v4(10, 9, 0, 0), 16)), ..Rule::all(true, 5, Action::Fails(RouteKind::Blackhole)) };
    links.add_rule(throw, true).expect("new");
    assert_eq!(to(&links, v4(10, 9, 9, 9)), Err(Errno::EINVAL));
}

#[test]
fn what_is_here_stays_when_the_loopback_interface_goes_down() {
    let mut links = Links::new(true);
    assert!(links.is_local(v4(127, 9, 9, 9)) && links.is_local(Ip::LOOPBACK6));
    links.set_up(LOOPBACK, false);
    assert!(links.is_local(Ip::LOOPBACK4) && !links.is_broadcast(v4(127, 255, 255, 255)));
    assert!(!links.is_local(Ip::LOOPBACK6) && links.addresses().count() == 1);
    links.set_up(LOOPBACK, true);
    assert!(links.is_broadcast(v4(127, 255, 255, 255)) && links.is_local(Ip::LOOPBACK6));
    assert_eq!(links.addresses().count(), 2);
}
