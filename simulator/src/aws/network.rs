//! The VPC: networks, subnets, routes and security groups. Packets are this machine's; what is decided here is who may call
//! whom, and which subnet is public.

mod kinds;

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use serde_json::Value;

use super::{Answer, Call, Fault, World, bag::Bags, list, number, text};

pub(crate) use kinds::KINDS;

/// Networks.
#[derive(Debug, Default)]
pub(crate) struct Network {
    bags: Bags,
}

/// A subnet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subnet {
    pub(crate) vpc: String,
    pub(crate) zone: String,
    /// Whether its route to the internet is an internet gateway.
    pub(crate) public: bool,
}

impl Network {
    /// Whether one of these security groups lets this source call this TCP port. Callers come from outside, so a rule that lets
    /// in another group lets in none of them.
    pub(crate) fn ingress_allows(&self, security_groups: &[String], port: u16, source: IpAddr) -> bool {
        let separate = self.bags.all("AWS::EC2::SecurityGroupIngress");
        security_groups.iter().any(|group| {
            let own = self.bags.get("AWS::EC2::SecurityGroup", group);
            let own = own.as_ref().map_or(&[][..], |held| list(&held.properties, "SecurityGroupIngress"));
            let separate = separate.iter().map(|held| &held.properties);
            let separate = separate.filter(|rule| text(rule, "GroupId") == Some(group.as_str()));
            own.iter().chain(separate).any(|rule| allows(rule, port, source))
        })
    }

    /// Whether there is such a security group.
    pub(crate) fn has_group(&self, id: &str) -> bool {
        self.bags.get("AWS::EC2::SecurityGroup", id).is_some()
    }

    /// A subnet by its id.
    pub(crate) fn subnet(&self, id: &str) -> Option<Subnet> {
        let held = self.bags.get("AWS::EC2::Subnet", id)?;
        let tables = self.bags.all("AWS::EC2::SubnetRouteTableAssociation");
        let table = tables.iter().find(|held| text(&held.properties, "SubnetId") == Some(id));
        let table = table.and_then(|held| text(&held.properties, "RouteTableId"));
        let public = self.bags.all("AWS::EC2::Route").iter().any(|route| {
            text(&route.properties, "RouteTableId") == table
                && table.is_some()
                && text(&route.properties, "DestinationCidrBlock") == Some("0.0.0.0/0")
                && text(&route.properties, "GatewayId").is_some()
        });
        Some(Subnet {
            vpc: text(&held.properties, "VpcId").unwrap_or_default().to_owned(),
            zone: held.attributes.get("AvailabilityZone").and_then(Value::as_str).unwrap_or_default().to_owned(),
            public,
        })
    }
}

/// Answers a call: EC2's own API is not simulated.
pub(crate) async fn call(_world: &Arc<World>, call: &Call) -> Answer {
    Err(Fault::unknown(&call.service, &call.operation))
}

/// A range of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cidr {
    pub(crate) base: Ipv4Addr,
    pub(crate) bits: u8,
}

impl Cidr {
    /// Reads `10.0.0.0/16`; none where it is no range of version 4.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (base, bits) = text.split_once('/')?;
        let (base, bits) = (base.parse().ok()?, bits.parse().ok()?);
        (bits <= 32).then_some(Cidr { base, bits })
    }

    /// Its first address as a number; the bits behind the prefix are nought.
    pub(crate) fn first(self) -> u32 {
        u32::from(self.base) & self.mask()
    }

    pub(crate) fn contains(self, address: Ipv4Addr) -> bool {
        u32::from(address) & self.mask() == self.first()
    }

    /// Whether all of the other lies in this one.
    pub(crate) fn covers(self, other: Cidr) -> bool {
        other.bits >= self.bits && self.contains(other.base)
    }

    fn mask(self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0)
    }
}

fn allows(rule: &Value, port: u16, source: IpAddr) -> bool {
    let protocol =
        text(rule, "IpProtocol").map(str::to_owned).or_else(|| number(rule, "IpProtocol").map(|n| n.to_string()));
    let port = i64::from(port);
    let fits = match protocol.as_deref() {
        Some("-1") => true,
        Some("tcp" | "6") => {
            (number(rule, "FromPort").unwrap_or(0)..=number(rule, "ToPort").unwrap_or(65_535)).contains(&port)
        }
        _ => false,
    };
    let range = text(rule, "CidrIp").and_then(Cidr::parse);
    let from_range = match source {
        IpAddr::V4(address) => range.is_some_and(|range| range.contains(address)),
        IpAddr::V6(_) => text(rule, "CidrIpv6") == Some("::/0"),
    };
    fits && from_range
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rules_let_in_whom_they_name() {
        let inside: IpAddr = [10, 0, 1, 2].into();
        let outside: IpAddr = [203, 0, 113, 9].into();
        let table: &[(Value, u16, IpAddr, bool)] = &[
            (json!({ "IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "CidrIp": "0.0.0.0/0" }), 80, outside, true),
            (
                json!({ "IpProtocol": "tcp", "FromPort": "80", "ToPort": "80", "CidrIp": "0.0.0.0/0" }),
                443,
                outside,
                false,
            ),
            (json!({ "IpProtocol": "udp", "FromPort": 80, "ToPort": 80, "CidrIp": "0.0.0.0/0" }), 80, outside, false),
            (json!({ "IpProtocol": "-1", "CidrIp": "10.0.0.0/16" }), 9000, inside, true),
            (json!({ "IpProtocol": "-1", "CidrIp": "10.0.0.0/16" }), 9000, outside, false),
            (json!({ "IpProtocol": -1, "SourceSecurityGroupId": "sg-1" }), 8080, inside, false),
            (
                json!({ "IpProtocol": "tcp", "FromPort": 8080, "ToPort": 8080, "SourceSecurityGroupId": "sg-1" }),
                8080,
                inside,
                false,
            ),
            (json!({ "IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "CidrIpv6": "::/0" }), 80, outside, false),
        ];
        for (rule, port, source, expected) in table {
            assert_eq!(allows(rule, *port, *source), *expected, "{rule} {source}");
        }
    }

    #[test]
    fn ranges_cover_ranges() {
        let table = [
            ("10.0.0.0/16", "10.0.4.0/24", true),
            ("10.0.0.0/16", "10.1.0.0/24", false),
            ("0.0.0.0/0", "1.2.3.4/32", true),
            ("10.0.4.0/24", "10.0.0.0/16", false),
        ];
        for (outer, inner, expected) in table {
            let found = Cidr::parse(outer).unwrap().covers(Cidr::parse(inner).unwrap());
            assert_eq!(found, expected, "{outer} {inner}");
        }
        for wrong in ["10.0.0.0", "10.0.0/16", "10.0.0.0/33", ""] {
            assert_eq!(Cidr::parse(wrong), None, "{wrong}");
        }
    }
}
