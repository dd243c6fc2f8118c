//! The network's kinds of resources, with what EC2 refuses of them.

use serde_json::{Value, json};

use super::Cidr;
use crate::aws::{
    Fault, World,
    bag::{self, Attributes, Bag, Bags},
    cloudformation::kinds::Kind,
    list, number, text,
};

/// Every kind of resource of this service that a stack can hold.
pub(crate) static KINDS: &[&dyn Kind] = &[
    &VPC,
    &SUBNET,
    &INTERNET_GATEWAY,
    &ATTACHMENT,
    &ROUTE_TABLE,
    &ROUTE,
    &ASSOCIATION,
    &EIP,
    &NAT,
    &GROUP,
    &INGRESS,
    &EGRESS,
    &FLOW_LOG,
    &ENDPOINT,
];

fn home(world: &World) -> &Bags {
    &world.network.bags
}

static VPC: Bag = Bag {
    name: "AWS::EC2::VPC",
    properties: &[
        "CidrBlock",
        "EnableDnsHostnames",
        "EnableDnsSupport",
        "InstanceTenancy",
        "Tags",
        "Ipv4IpamPoolId",
        "Ipv4NetmaskLength",
    ],
    required: &[],
    renewed_by: &["CidrBlock", "InstanceTenancy"],
    takes_ms: 12_000,
    import_by: Some("VpcId"),
    home,
    check: |_, properties| {
        let range = cidr(properties, "CidrBlock")?;
        if !(16..=28).contains(&range.bits) {
            let message = format!("The CIDR '{}' is invalid.", text(properties, "CidrBlock").unwrap_or_default());
            return Err(Fault::new("InvalidVpc.Range", message));
        }
        Ok(())
    },
    made: |_, _, properties| {
        let id = bag::id("vpc");
        let attributes: Attributes = vec![
            ("VpcId", json!(id)),
            ("CidrBlock", properties["CidrBlock"].clone()),
            ("DefaultSecurityGroup", json!(bag::id("sg"))),
            ("DefaultNetworkAcl", json!(bag::id("acl"))),
            ("CidrBlockAssociations", json!([bag::id("vpc-cidr-assoc")])),
        ];
        (id, attributes)
    },
};

static SUBNET: Bag = Bag {
    name: "AWS::EC2::Subnet",
    properties: &[
        "AvailabilityZone",
        "AvailabilityZoneId",
        "CidrBlock",
        "MapPublicIpOnLaunch",
        "PrivateDnsNameOptionsOnLaunch",
        "Tags",
        "VpcId",
    ],
    required: &["VpcId"],
    renewed_by: &["AvailabilityZone", "AvailabilityZoneId", "CidrBlock", "VpcId"],
    takes_ms: 5_000,
    import_by: Some("SubnetId"),
    home,
    check: |world, properties| {
        let range = cidr(properties, "CidrBlock")?;
        let vpc = text(properties, "VpcId").unwrap_or_default();
        let Some(vpc) = home(world).get("AWS::EC2::VPC", vpc) else {
            return Err(Fault::new("InvalidVpcID.NotFound", format!("The vpc ID '{vpc}' does not exist")));
        };
        if !cidr(&vpc.properties, "CidrBlock")?.covers(range) {
            let message = format!("The CIDR '{}' is invalid.", text(properties, "CidrBlock").unwrap_or_default());
            return Err(Fault::new("InvalidSubnet.Range", message));
        }
        Ok(())
    },
    made: |world, _, properties| {
        let id = bag::id("subnet");
        let zone =
            text(properties, "AvailabilityZone").map_or_else(|| format!("{}a", world.settings.region), str::to_owned);
        let attributes: Attributes = vec![
            ("SubnetId", json!(id)),
            ("AvailabilityZone", json!(zone)),
            ("CidrBlock", properties["CidrBlock"].clone()),
            ("VpcId", properties["VpcId"].clone()),
        ];
        (id, attributes)
    },
};

static INTERNET_GATEWAY: Bag = Bag {
    name: "AWS::EC2::InternetGateway",
    properties: &["Tags"],
    required: &[],
    renewed_by: &[],
    takes_ms: 15_000,
    import_by: Some("InternetGatewayId"),
    home,
    check: bag::any,
    made: |_, _, _| named("igw", "InternetGatewayId"),
};

static ATTACHMENT: Bag = Bag {
    name: "AWS::EC2::VPCGatewayAttachment",
    properties: &["InternetGatewayId", "VpcId", "VpnGatewayId"],
    required: &["VpcId"],
    renewed_by: &["VpcId"],
    takes_ms: 15_000,
    import_by: None,
    home,
    check: bag::any,
    made: |_, _, properties| (format!("IGW|{}", text(properties, "VpcId").unwrap_or_default()), Vec::new()),
};

static ROUTE_TABLE: Bag = Bag {
    name: "AWS::EC2::RouteTable",
    properties: &["Tags", "VpcId"],
    required: &["VpcId"],
    renewed_by: &["VpcId"],
    takes_ms: 11_000,
    import_by: Some("RouteTableId"),
    home,
    check: bag::any,
    made: |_, _, _| named("rtb", "RouteTableId"),
};

static ROUTE: Bag = Bag {
    name: "AWS::EC2::Route",
    properties: &[
        "DestinationCidrBlock",
        "DestinationIpv6CidrBlock",
        "GatewayId",
        "NatGatewayId",
        "RouteTableId",
        "VpcEndpointId",
        "VpcPeeringConnectionId",
    ],
    required: &["RouteTableId"],
    renewed_by: &["DestinationCidrBlock", "DestinationIpv6CidrBlock", "RouteTableId"],
    takes_ms: 5_000,
    import_by: None,
    home,
    check: |world, properties| {
        let Some(gateway) = text(properties, "GatewayId") else { return Ok(()) };
        let attached = home(world).all("AWS::EC2::VPCGatewayAttachment");
        if attached.iter().any(|held| text(&held.properties, "InternetGatewayId") == Some(gateway)) {
            return Ok(());
        }
        let table = text(properties, "RouteTableId").unwrap_or_default();
        let message = format!("route table {table} and network gateway {gateway} belong to different networks");
        Err(Fault::new("InvalidParameterValue", message))
    },
    made: |_, _, properties| {
        let table = text(properties, "RouteTableId").unwrap_or_default();
        let to = text(properties, "DestinationCidrBlock").or(text(properties, "DestinationIpv6CidrBlock"));
        (format!("{table}|{}", to.unwrap_or_default()), Vec::new())
    },
};

static ASSOCIATION: Bag = Bag {
    name: "AWS::EC2::SubnetRouteTableAssociation",
    properties: &["RouteTableId", "SubnetId"],
    required: &["RouteTableId", "SubnetId"],
    renewed_by: &["RouteTableId", "SubnetId"],
    takes_ms: 2_000,
    import_by: None,
    home,
    check: bag::any,
    made: |_, _, _| named("rtbassoc", "Id"),
};

static EIP: Bag = Bag {
    name: "AWS::EC2::EIP",
    properties: &["Address", "Domain", "InstanceId", "NetworkBorderGroup", "PublicIpv4Pool", "Tags", "TransferAddress"],
    required: &[],
    renewed_by: &["Domain", "NetworkBorderGroup"],
    takes_ms: 15_000,
    import_by: None,
    home,
    check: bag::any,
    made: |_, _, _| {
        // A range that is kept for documentation: nobody's.
        let address = format!("203.0.113.{}", fastrand::u8(1..255));
        let allocation = bag::id("eipalloc");
        let attributes: Attributes = vec![("AllocationId", json!(allocation)), ("PublicIp", json!(address))];
        (address, attributes)
    },
};

static NAT: Bag = Bag {
    name: "AWS::EC2::NatGateway",
    properties: &[
        "AllocationId",
        "ConnectivityType",
        "MaxDrainDurationSeconds",
        "PrivateIpAddress",
        "SecondaryAllocationIds",
        "SubnetId",
        "Tags",
        "VpcId",
    ],
    required: &[],
    renewed_by: &["AllocationId", "ConnectivityType", "PrivateIpAddress", "SubnetId", "VpcId"],
    takes_ms: 90_000,
    import_by: Some("NatGatewayId"),
    home,
    check: bag::any,
    made: |_, _, _| named("nat", "NatGatewayId"),
};

static GROUP: Bag = Bag {
    name: "AWS::EC2::SecurityGroup",
    properties: &["GroupDescription", "GroupName", "SecurityGroupEgress", "SecurityGroupIngress", "Tags", "VpcId"],
    required: &["GroupDescription"],
    renewed_by: &["GroupDescription", "GroupName", "VpcId"],
    takes_ms: 6_000,
    import_by: Some("Id"),
    home,
    check: |world, properties| {
        let mut rules = list(properties, "SecurityGroupIngress").iter().chain(list(properties, "SecurityGroupEgress"));
        rules.try_for_each(|rule| checked_rule(world, rule))
    },
    made: |_, _, properties| {
        let id = bag::id("sg");
        let vpc = properties.get("VpcId").cloned().unwrap_or_default();
        let attributes: Attributes = vec![("GroupId", json!(id)), ("Id", json!(id)), ("VpcId", vpc)];
        (id, attributes)
    },
};

static INGRESS: Bag = Bag {
    name: "AWS::EC2::SecurityGroupIngress",
    properties: &[
        "CidrIp",
        "CidrIpv6",
        "Description",
        "FromPort",
        "GroupId",
        "GroupName",
        "IpProtocol",
        "SourcePrefixListId",
        "SourceSecurityGroupId",
        "SourceSecurityGroupOwnerId",
        "ToPort",
    ],
    required: &["IpProtocol"],
    renewed_by: &["CidrIp", "CidrIpv6", "FromPort", "GroupId", "IpProtocol", "SourceSecurityGroupId", "ToPort"],
    takes_ms: 1_000,
    import_by: None,
    home,
    check: separate_rule,
    made: |_, _, _| named("sgr", "Id"),
};

static EGRESS: Bag = Bag {
    name: "AWS::EC2::SecurityGroupEgress",
    properties: &[
        "CidrIp",
        "CidrIpv6",
        "Description",
        "DestinationPrefixListId",
        "DestinationSecurityGroupId",
        "FromPort",
        "GroupId",
        "IpProtocol",
        "ToPort",
    ],
    required: &["GroupId", "IpProtocol"],
    renewed_by: &["CidrIp", "CidrIpv6", "DestinationSecurityGroupId", "FromPort", "GroupId", "IpProtocol", "ToPort"],
    takes_ms: 1_000,
    import_by: None,
    home,
    check: separate_rule,
    made: |_, _, _| named("sgr", "Id"),
};

static FLOW_LOG: Bag = Bag {
    name: "AWS::EC2::FlowLog",
    properties: &[
        "DeliverCrossAccountRole",
        "DeliverLogsPermissionArn",
        "DestinationOptions",
        "LogDestination",
        "LogDestinationType",
        "LogFormat",
        "LogGroupName",
        "MaxAggregationInterval",
        "ResourceId",
        "ResourceType",
        "Tags",
        "TrafficType",
    ],
    required: &["ResourceId", "ResourceType"],
    renewed_by: &[
        "DeliverLogsPermissionArn",
        "LogDestination",
        "LogDestinationType",
        "LogFormat",
        "LogGroupName",
        "MaxAggregationInterval",
        "ResourceId",
        "ResourceType",
        "TrafficType",
    ],
    takes_ms: 2_000,
    import_by: Some("Id"),
    home,
    check: bag::any,
    made: |_, _, _| named("fl", "Id"),
};

static ENDPOINT: Bag = Bag {
    name: "AWS::EC2::VPCEndpoint",
    properties: &[
        "DnsOptions",
        "IpAddressType",
        "PolicyDocument",
        "PrivateDnsEnabled",
        "RouteTableIds",
        "SecurityGroupIds",
        "ServiceName",
        "SubnetIds",
        "Tags",
        "VpcEndpointType",
        "VpcId",
    ],
    required: &["VpcId"],
    renewed_by: &["ServiceName", "VpcEndpointType", "VpcId"],
    takes_ms: 60_000,
    import_by: Some("Id"),
    home,
    check: bag::any,
    made: |_, _, _| named("vpce", "Id"),
};

fn named(prefix: &str, attribute: &'static str) -> (String, Attributes) {
    let id = bag::id(prefix);
    (id.clone(), vec![(attribute, json!(id))])
}

fn cidr(properties: &Value, property: &str) -> Result<Cidr, Fault> {
    let given = text(properties, property).unwrap_or_default();
    Cidr::parse(given).ok_or_else(|| {
        Fault::new(
            "InvalidParameterValue",
            format!("Value ({given}) for parameter cidrBlock is invalid. This is not a valid CIDR block."),
        )
    })
}

fn separate_rule(world: &World, rule: &Value) -> Result<(), Fault> {
    let group = text(rule, "GroupId").unwrap_or_default();
    if !world.network.has_group(group) {
        return Err(Fault::new("InvalidGroup.NotFound", format!("The security group '{group}' does not exist")));
    }
    checked_rule(world, rule)
}

fn checked_rule(_: &World, rule: &Value) -> Result<(), Fault> {
    if let Some(given) = text(rule, "CidrIp")
        && Cidr::parse(given).is_none()
    {
        return Err(Fault::new("InvalidParameterValue", format!("CIDR block {given} is malformed")));
    }
    for port in ["FromPort", "ToPort"] {
        if let Some(number) = number(rule, port)
            && !(-1..=65_535).contains(&number)
        {
            return Err(Fault::new(
                "InvalidParameterValue",
                format!("Invalid value '{number}' for portRange. Must be between -1 and 65535."),
            ));
        }
    }
    Ok(())
}
