use multiaddr::Multiaddr;

use super::*;
use crate::testing;

fn address(text: &str) -> Address {
    Address::from(&text.parse::<Multiaddr>().unwrap())
}

fn contact(n: u64) -> Contact {
    Contact {
        member: testing::member(n),
        addresses: vec![
            address("/ip4/192.0.2.1/tcp/4001"),
            address("/ip6/2001:db8::1/udp/4001/quic-v1"),
            address("/dns4/tree.example/tcp/443"),
        ],
    }
}

fn private() -> Ticket {
    let access = Access::Private(Secret::from_bytes([0xab; 32]));
    Ticket::new(access, Some("tea round".to_owned()), vec![contact(1), contact(2)]).unwrap()
}

fn open() -> Ticket {
    let access = Access::Open { name: "lobby".to_owned() };
    Ticket::new(access, None, vec![contact(1)]).unwrap()
}

fn parse(text: &str) -> Result<Ticket, TicketError> {
    text.parse()
}

/// The text of a ticket with any content.
fn forged(version: u8, body: &Body<impl Serialize>) -> String {
    let mut bytes = vec![version];
    bytes.extend(codec::encode(body));
    let sum = checksum(&bytes);
    bytes.extend(sum);
    format!("{PREFIX}{}", BASE32_NOPAD.encode(&bytes))
}

fn body<C>(coordinators: Vec<C>) -> Body<C> {
    Body { secret: Some(Bytes([1; 32])), open: None, name: None, coordinators }
}

#[test]
fn what_was_written_is_read() {
    for ticket in [private(), open()] {
        let text = ticket.to_string();
        assert!(text.starts_with(PREFIX) && text.chars().all(|c| c.is_ascii_alphanumeric()));
        assert!(!text.chars().any(char::is_uppercase));
        assert_eq!(parse(&text), Ok(ticket));
    }
}

#[test]
fn upper_case_and_white_space_do_not_matter() {
    let text = private().to_string();
    assert_eq!(parse(&text.to_uppercase()), Ok(private()));
    let broken: Vec<String> =
        text.as_bytes().chunks(40).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
    assert_eq!(parse(&broken.join("\n  ")), Ok(private()));
    assert_eq!(parse(&format!("\t {text}\r\n")), Ok(private()));
}

#[test]
fn cut_at_any_length_it_is_refused() {
    let text = private().to_string();
    for len in 0..text.len() {
        let expected =
            if len < PREFIX.len() { TicketError::NotATicket } else { TicketError::Mistyped };
        assert_eq!(parse(&text[..len]), Err(expected), "at {len}");
    }
}

#[test]
fn any_wrong_letter_is_found() {
    let text = private().to_string();
    for at in PREFIX.len()..text.len() {
        for letter in ["a", "b", "q", "z", "2", "7"] {
            if &text[at..=at] != letter {
                let mut bad = text.clone();
                bad.replace_range(at..=at, letter);
                assert_eq!(parse(&bad), Err(TicketError::Mistyped), "{letter} at {at}");
            }
        }
    }
}

#[test]
fn swapped_doubled_and_added_letters_are_found() {
    let text = private().to_string();
    for at in PREFIX.len()..text.len() - 1 {
        let mut letters: Vec<char> = text.chars().collect();
        letters.swap(at, at + 1);
        let swapped: String = letters.iter().collect();
        if swapped != text {
            assert_eq!(parse(&swapped), Err(TicketError::Mistyped));
        }
        letters.insert(at, 'a');
        assert_eq!(parse(&letters.iter().collect::<String>()), Err(TicketError::Mistyped));
    }
    assert_eq!(
        parse(&format!("{text}{text}")).unwrap_err(),
        TicketError::Foreign { found: '1', at: text.len() + PREFIX.len() }
    );
}

#[test]
fn foreign_characters_are_named_with_their_place() {
    let text = private().to_string();
    for found in ['0', '1', '8', '9', '-', '=', 'é'] {
        let mut bad = text.clone();
        bad.insert(10, found);
        assert_eq!(parse(&bad), Err(TicketError::Foreign { found, at: 11 }));
    }
}

#[test]
fn other_texts_are_no_tickets() {
    for text in ["", "arb", "lobby", "arb2abcdef", "é", "ar\u{e9}1"] {
        assert_eq!(parse(text), Err(TicketError::NotATicket), "{text}");
        assert!(!Ticket::looks_like(text), "{text}");
    }
    for text in ["arb1", "ARB1xyz", " arb1xyz\n", "arb1 what"] {
        assert!(Ticket::looks_like(text), "{text}");
        assert!(parse(text).is_err(), "{text}");
    }
    assert!(Ticket::looks_like(&private().to_string()));
}

#[test]
fn a_newer_version_is_called_newer() {
    let text = forged(3, &body(vec![(testing::member(1), Vec::<Address>::new())]));
    assert_eq!(parse(&text), Err(TicketError::Version(3)));
}

#[test]
fn bad_contents_behind_a_good_checksum_are_refused() {
    let member = testing::member(1);
    let good = address("/ip4/192.0.2.1/tcp/4001");
    let with = |addresses| parse(&forged(1, &body(vec![(member, addresses)])));
    assert!(with(vec![good.clone()]).is_ok());
    assert_eq!(parse(&forged(1, &body(Vec::<InFull>::new()))), Err(TicketError::NoCoordinator));
    assert_eq!(with(vec![Address(vec![1, 2, 3])]), Err(TicketError::BadAddress(member)));
    assert_eq!(with(vec![Address(vec![])]), Err(TicketError::BadAddress(member)));
    assert_eq!(with(vec![good; 17]), Err(TicketError::TooManyAddresses(member)));
    let ends_in_peer = format!("/ip4/192.0.2.1/tcp/4001/p2p/{member}");
    assert_eq!(with(vec![address(&ends_in_peer)]), Err(TicketError::BadAddress(member)));
    let long = address(&format!("/dns4/{}/tcp/1", "a".repeat(260)));
    assert_eq!(with(vec![long]), Err(TicketError::BadAddress(member)));
    let none = Vec::<Address>::new;
    let many = (1..=9).map(|n| (testing::member(n), none())).collect();
    assert_eq!(parse(&forged(1, &body(many))), Err(TicketError::TooManyCoordinators));
    let twice = forged(1, &body(vec![(member, none()), (member, none())]));
    assert!(matches!(parse(&twice), Err(TicketError::Malformed(_))));
    let both = Body { open: Some("lobby".to_owned()), ..body(vec![(member, none())]) };
    assert!(matches!(parse(&forged(1, &both)), Err(TicketError::Malformed(_))));
    let neither = Body { secret: None, ..body(vec![(member, none())]) };
    assert!(matches!(parse(&forged(1, &neither)), Err(TicketError::Malformed(_))));
    let named = Body { name: Some("a\u{1b}[2J".to_owned()), ..body(vec![(member, none())]) };
    assert_eq!(parse(&forged(1, &named)), Err(TicketError::BadName));
}

#[test]
fn an_address_over_a_circuit_is_good() {
    let relay = testing::member(9);
    let circuit = format!("/ip4/192.0.2.1/tcp/4001/p2p/{relay}/p2p-circuit");
    let contact = Contact { member: testing::member(1), addresses: vec![address(&circuit)] };
    assert!(Ticket::new(open().access, None, vec![contact]).is_ok());
}

#[test]
fn a_ticket_that_would_be_too_long_is_not_made() {
    let long = address(&format!("/dns4/{}/tcp/1", "a".repeat(200)));
    let contact = |n| Contact { member: testing::member(n), addresses: vec![long.clone(); 13] };
    let make = |coordinators| Ticket::new(open().access, None, coordinators);
    assert_eq!(make(vec![contact(1)]), Err(TicketError::TooLong));
    let text = format!("{PREFIX}{}", "a".repeat(limits::TICKET));
    assert_eq!(parse(&text), Err(TicketError::TooLong));
}

#[test]
fn names_that_look_like_tickets_are_refused() {
    let make =
        |name: &str| Ticket::new(Access::Open { name: name.to_owned() }, None, vec![contact(1)]);
    assert_eq!(make("arb1abc"), Err(TicketError::BadName));
    assert_eq!(make(""), Err(TicketError::BadName));
    assert_eq!(make(&"n".repeat(129)), Err(TicketError::BadName));
    assert!(make(&"n".repeat(128)).is_ok());
}

#[test]
fn unknown_fields_of_later_versions_are_skipped() {
    #[derive(Serialize)]
    struct Later {
        s: Bytes,
        c: Vec<(MemberId, Vec<Address>)>,
        z: u8,
    }
    let later = Later { s: Bytes([1; 32]), c: vec![(testing::member(1), vec![])], z: 1 };
    let mut bytes = vec![1];
    bytes.extend(codec::encode(&later));
    let sum = checksum(&bytes);
    bytes.extend(sum);
    assert!(parse(&format!("{PREFIX}{}", BASE32_NOPAD.encode(&bytes))).is_ok());
}

#[test]
fn tickets_are_short_enough_for_a_line_of_chat() {
    let length = |addresses: &[&str]| {
        let addresses = addresses.iter().map(|text| address(text)).collect();
        let contact = Contact { member: testing::member(1), addresses };
        let access = Access::Private(Secret::from_bytes([0xab; 32]));
        let ticket = Ticket::new(access, Some("studio".to_owned()), vec![contact]).unwrap();
        assert_eq!(parse(&ticket.to_string()), Ok(ticket.clone()));
        ticket.to_string().len()
    };
    let v4: Vec<String> = (1..=5)
        .flat_map(|n| {
            [format!("/ip4/192.0.2.{n}/tcp/4001"), format!("/ip4/192.0.2.{n}/udp/4002/quic-v1")]
        })
        .collect();
    let mut all: Vec<&str> = v4.iter().map(String::as_str).collect();
    assert!(length(&all) <= 200, "{}", length(&all));
    all.extend(["/ip6/2001:db8::1/tcp/4001", "/ip6/2001:db8::1/udp/4002/quic-v1"]);
    assert!(length(&all) <= 230, "{}", length(&all));
}

#[test]
fn version_1_is_still_read() {
    // As it was written then.
    let text = "arb1agrgc33fnrxweytzmfrydasyecfiry65oqe7dfp5klns2pf2lvzmuzyjx4ozieq36n2iqanub5xvzasiataaaaqhayh2cvzjeaaq3oaaaaaaaaaaaaaaaaaaa6iqed5bzub6vbamvm";
    let read = parse(text).unwrap();
    assert_eq!(read.access, Access::Open { name: "lobby".to_owned() });
    let [contact] = &read.coordinators[..] else { panic!("{read:?}") };
    assert_eq!(
        contact.addresses,
        [address("/ip4/192.0.2.7/tcp/4001"), address("/ip6/2001:db8::7/udp/4001/quic-v1")]
    );
    let (member, addresses) = (testing::member(1), self::contact(1).addresses);
    let read = parse(&forged(1, &body(vec![(member, addresses.clone())]))).unwrap();
    let sorted = |mut addresses: Vec<Address>| {
        addresses.sort();
        addresses
    };
    assert_eq!(sorted(read.coordinators[0].addresses.clone()), sorted(addresses));
}

#[test]
fn addresses_of_any_kind_are_all_there_whatever_their_ports() {
    let texts = [
        "/ip4/192.0.2.1/tcp/1",
        "/ip4/192.0.2.1/tcp/2",
        "/ip4/192.0.2.1/udp/1/quic-v1",
        "/ip6/2001:db8::1/tcp/1",
        "/ip6/2001:db8::2/udp/9/quic-v1",
        "/dns/tree.example/tcp/443",
        "/ip4/192.0.2.9/tcp/443/tls/ws",
        "/ip4/192.0.2.9/tcp/0",
    ];
    let addresses: Vec<Address> = texts.iter().map(|text| address(text)).collect();
    let contact = Contact { member: testing::member(1), addresses: addresses.clone() };
    let ticket = Ticket::new(open().access, None, vec![contact]).unwrap();
    let read = parse(&ticket.to_string()).unwrap();
    assert_eq!(read, ticket);
    let (mut came, mut went) = (read.coordinators[0].addresses.clone(), addresses);
    came.sort();
    went.sort();
    assert_eq!(came, went);
}

#[test]
fn what_was_not_packed_is_refused() {
    let bad = |packed: &[u8]| {
        let contact: Packed = (testing::member(1), ByteBuf::from(packed), Vec::new());
        parse(&forged(VERSION, &body(vec![contact]))).unwrap_err()
    };
    let member = testing::member(1);
    for packed in [&[0_u8][..], &[0, 1, 0, 2, 1, 192, 0, 2], &[0, 1, 0, 2, 0, 1, 5]] {
        assert_eq!(bad(packed), TicketError::BadAddress(member), "{packed:?}");
    }
    let mut many = vec![0, 1, 0, 2, 255];
    many.extend([9; 255 * 4]);
    many.push(0);
    assert_eq!(bad(&many), TicketError::BadAddress(member));
    many[4] = 16;
    many.truncate(5 + 16 * 4);
    many.push(0);
    assert_eq!(bad(&many), TicketError::TooManyAddresses(member), "32 of them");
}

#[test]
fn debug_does_not_show_the_secret() {
    let text = format!("{:?}", private()).to_lowercase();
    assert!(text.contains("tea round") && text.contains("192.0.2.1"));
    assert!(!text.contains("abab") && !text.contains("171, 171"), "{text}");
}
