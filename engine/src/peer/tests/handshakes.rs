//! The handshake between nodes that fit, nodes that do not, and forgers.

use std::sync::Arc;

use super::{identity, incarnation};
use crate::peer::{
    ClusterId, DialFault, DialStep, Dialler, GreetStep, Greeter, Hello, Identity, Incarnation, Lane, MESSAGE_LEN_MAX,
    Nonce, Refusal, RefusalCode, Resume, Roster, Standing, Terms, VERSIONS, Versions, Wanted, Welcome, message_len,
};

struct Meeting {
    dialler: Identity,
    acceptor: Identity,
    lane: Lane,
    wanted: Wanted,
    versions: (Versions, Versions),
    bindings: (Vec<u8>, Vec<u8>),
    members: Vec<(&'static str, Option<Incarnation>)>,
    removed: Vec<(&'static str, Incarnation)>,
    is_joining_allowed: bool,
}

impl Meeting {
    fn new() -> Self {
        Self {
            dialler: identity("a@h", 1),
            acceptor: identity("b@h", 2),
            lane: Lane::Data,
            wanted: Wanted { name: "b@h".into(), incarnation: None },
            versions: (VERSIONS, VERSIONS),
            bindings: (Vec::new(), Vec::new()),
            members: vec![("a@h", None)],
            removed: Vec::new(),
            is_joining_allowed: false,
        }
    }

    fn roster(&self) -> Roster {
        Roster::new(
            self.members.iter().map(|(name, incarnation)| ((*name).into(), *incarnation)),
            self.is_joining_allowed,
        )
        .with_removed(self.removed.iter().map(|(name, incarnation)| ((*name).into(), *incarnation)))
    }

    fn begin(&self) -> (Dialler, Vec<u8>, Greeter) {
        let (dialler, acceptor) = (Arc::new(self.dialler.clone()), Arc::new(self.acceptor.clone()));
        let nonce: Nonce = [3; 32];
        let (dialler, hello) =
            Dialler::begin(&dialler, self.lane, self.wanted.clone(), self.versions.0, &nonce, &self.bindings.0);
        (dialler, hello, Greeter::new(&acceptor, self.versions.1, [4; 32], &self.bindings.1))
    }

    /// All of it: what the dialler ends with.
    fn hold(&self) -> Result<Welcome, DialFault> {
        let (mut dialler, mut bytes, mut greeter) = self.begin();
        loop {
            assert_eq!(message_len(&bytes), Ok(Some(bytes.len())));
            let answer = match greeter.advance(&bytes) {
                GreetStep::Send(answer) | GreetStep::Refuse(answer, _) => answer,
                GreetStep::Proven => {
                    let hello = greeter.hello().expect("it has come").clone();
                    match self.roster().judge(greeter.identity(), &hello) {
                        Ok(standing) => greeter.welcome(&terms(standing)),
                        Err(refusal) => greeter.refuse(&refusal),
                    }
                }
            };
            match dialler.advance(&answer)? {
                DialStep::Send(next) => bytes = next,
                DialStep::Done(welcome) => return Ok(*welcome),
            }
        }
    }

    fn refusal(&self) -> Refusal {
        match self.hold() {
            Err(DialFault::Refused(refusal)) => refusal,
            other => panic!("expected a refusal, got {other:?}"),
        }
    }
}

fn terms(standing: Standing) -> Terms {
    Terms { standing, resume: Resume { kept: 1, received: 2, credit: 3 }, message_len_max: 4 }
}

#[test]
fn members_of_one_cluster_meet() {
    let welcome = Meeting::new().hold().unwrap();
    assert_eq!(*welcome.peer, identity("b@h", 2).node);
    assert_eq!((welcome.version, welcome.terms), (1, terms(Standing::Member)));
}

#[test]
fn another_secret_is_refused_and_told() {
    let mut meeting = Meeting::new();
    meeting.dialler.secret = b"guess".to_vec();
    let refusal = meeting.refusal();
    assert_eq!(refusal.code, RefusalCode::Secret);
    assert!(refusal.text.contains("distributed_cookie") && refusal.text.contains("b@h"), "{refusal}");
}

#[test]
fn another_cluster_is_refused_with_both_names() {
    let mut meeting = Meeting::new();
    meeting.dialler.cluster = Some(ClusterId([9; 16]));
    let refusal = meeting.refusal();
    assert_eq!(refusal.code, RefusalCode::WrongCluster);
    assert!(refusal.text.contains("0707") && refusal.text.contains("0909"), "{refusal}");
}

#[test]
fn whoever_was_removed_learns_it() {
    let mut meeting = Meeting::new();
    meeting.members = vec![("c@h", None)];
    // Even while others may join: the node believes to be a member, and must know that it is not.
    meeting.is_joining_allowed = true;
    assert_eq!(meeting.refusal().code, RefusalCode::NotAMember);
}

#[test]
fn whoever_was_removed_for_good_learns_that_and_whoever_joins_anew_does_not() {
    let mut meeting = Meeting::new();
    meeting.members = vec![("c@h", None)];
    meeting.removed = vec![("a@h", incarnation("a@h")), ("b@h", Incarnation([1; 16]))];
    let refusal = meeting.refusal();
    assert_eq!(refusal.code, RefusalCode::Removed);
    assert!(refusal.text.contains("a@h was taken out"), "{refusal}");
    // A member that has not heard of the new one yet knows only that the old data directory is gone.
    meeting.removed = vec![("a@h", Incarnation([1; 16]))];
    assert_eq!(meeting.refusal().code, RefusalCode::NotAMember);
    meeting.members = vec![("a@h", None)];
    meeting.removed = vec![("a@h", incarnation("a@h"))];
    assert!(meeting.hold().is_ok());
}

#[test]
fn a_member_with_another_data_directory_is_refused_with_both() {
    let mut meeting = Meeting::new();
    meeting.members = vec![("a@h", Some(Incarnation([1; 16])))];
    let refusal = meeting.refusal();
    assert_eq!(refusal.code, RefusalCode::WrongIncarnation);
    assert!(refusal.text.contains("0101") && refusal.text.contains(&incarnation("a@h").to_string()), "{refusal}");
    meeting.members = vec![("a@h", Some(incarnation("a@h")))];
    assert!(meeting.hold().is_ok());
}

#[test]
fn a_setting_that_differs_is_refused_and_one_that_only_one_end_knows_is_not() {
    let mut meeting = Meeting::new();
    let setting = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    meeting.dialler.agreed = vec![setting("vmq_swc.swc_groups", "10"), setting("new_in_2", "x")];
    meeting.acceptor.agreed = vec![setting("gone_since_2", "y"), setting("vmq_swc.swc_groups", "5")];
    let refusal = meeting.refusal();
    assert_eq!(refusal.code, RefusalCode::Settings);
    for part in ["vmq_swc.swc_groups", "5 on b@h", "10 on a@h"] {
        assert!(refusal.text.contains(part), "{refusal}");
    }
    meeting.acceptor.agreed[1].1 = "10".to_owned();
    assert!(meeting.hold().is_ok());
}

#[test]
fn neighbouring_versions_speak_the_lower_one_and_distant_ones_are_refused() {
    let versions = |lowest, highest| Versions { lowest, highest };
    let mut meeting = Meeting::new();
    for (dialler, acceptor, spoken) in [
        (versions(1, 2), versions(2, 3), Some(2)),
        (versions(2, 3), versions(1, 2), Some(2)),
        (versions(1, 1), versions(1, 2), Some(1)),
        (versions(1, 2), versions(1, 2), Some(2)),
        (versions(1, 2), versions(3, 4), None),
        (versions(3, 4), versions(1, 2), None),
    ] {
        meeting.versions = (dialler, acceptor);
        if let Some(spoken) = spoken {
            assert_eq!(meeting.hold().unwrap().version, spoken);
            continue;
        }
        let refusal = meeting.refusal();
        assert_eq!(refusal.code, RefusalCode::Version);
        assert!(refusal.text.contains("upgrade"), "{refusal}");
    }
}

#[test]
fn a_node_without_a_cluster_comes_as_a_guest_where_joining_is_allowed() {
    let mut meeting = Meeting::new();
    meeting.dialler.cluster = None;
    meeting.members.clear();
    meeting.lane = Lane::Control;
    assert_eq!(meeting.refusal().code, RefusalCode::JoiningClosed);
    meeting.is_joining_allowed = true;
    assert_eq!(meeting.hold().unwrap().terms.standing, Standing::Guest);
    for lane in [Lane::Metadata, Lane::Data] {
        meeting.lane = lane;
        assert_eq!(meeting.refusal().code, RefusalCode::GuestLane);
    }
}

#[test]
fn a_node_that_is_joining_is_called_back_by_those_it_looks_for() {
    let mut meeting = Meeting::new();
    meeting.acceptor.cluster = None;
    meeting.lane = Lane::Control;
    assert_eq!(meeting.hold().unwrap().terms.standing, Standing::Guest);
    meeting.members.clear();
    assert_eq!(meeting.refusal().code, RefusalCode::JoiningClosed);
}

#[test]
fn an_address_that_leads_to_another_node_is_told_by_both_ends() {
    let mut meeting = Meeting::new();
    meeting.wanted.name = "c@h".into();
    let refusal = meeting.refusal();
    assert_eq!(refusal.code, RefusalCode::WrongNode);
    assert!(refusal.text.contains("c@h") && refusal.text.contains("b@h"), "{refusal}");
}

#[test]
fn an_address_that_leads_back_is_told() {
    let mut meeting = Meeting::new();
    meeting.acceptor = meeting.dialler.clone();
    let refusal = meeting.refusal();
    assert_eq!(refusal.code, RefusalCode::WrongNode);
    assert!(refusal.text.contains("back to the node itself"), "{refusal}");
}

#[test]
fn two_nodes_of_one_name_are_told() {
    let mut meeting = Meeting::new();
    meeting.acceptor.node.name = "a@h".into();
    meeting.wanted.name = "a@h".into();
    assert_eq!(meeting.refusal().code, RefusalCode::NameTaken);
}

#[test]
fn a_dialler_insists_on_the_data_directory_that_it_knows() {
    let mut meeting = Meeting::new();
    meeting.wanted.incarnation = Some(Incarnation([1; 16]));
    assert!(matches!(meeting.hold(), Err(DialFault::WrongIncarnation { .. })));
    meeting.wanted.incarnation = Some(incarnation("b@h"));
    assert!(meeting.hold().is_ok());
}

#[test]
fn who_answers_in_the_place_of_another_is_known_to_the_dialler() {
    let mut meeting = Meeting::new();
    meeting.wanted.name = "seed".into();
    let (mut dialler, hello, mut greeter) = meeting.begin();
    let GreetStep::Send(challenge) = greeter.advance(&hello) else { panic!() };
    let Ok(DialStep::Send(proof)) = dialler.advance(&challenge) else { panic!() };
    assert!(dialler.answering().is_none(), "nothing is proved yet");
    assert!(matches!(greeter.advance(&proof), GreetStep::Proven));
    let refusal = Refusal::new(RefusalCode::WrongNode, "somebody else");
    assert!(dialler.advance(&greeter.refuse(&refusal)).is_err());
    assert_eq!(dialler.answering().map(|node| &*node.name), Some("b@h"));
}

/// A welcome with an invented MAC.
fn forged_welcome() -> Vec<u8> {
    terms(Standing::Member).encode(|_| [0; 32])
}

// -- forgers ------------------------------------------------------------------------------------------------------

#[test]
fn a_proof_is_worth_nothing_on_another_connection() {
    let meeting = Meeting::new();
    let (mut dialler, hello, mut greeter) = meeting.begin();
    let GreetStep::Send(challenge) = greeter.advance(&hello) else { panic!() };
    let Ok(DialStep::Send(proof)) = dialler.advance(&challenge) else { panic!() };
    // All that was heard is said again, to an acceptor with another nonce.
    let mut other = Greeter::new(&Arc::new(meeting.acceptor.clone()), VERSIONS, [5; 32], &[]);
    assert!(matches!(other.advance(&hello), GreetStep::Send(_)));
    assert!(matches!(other.advance(&proof), GreetStep::Refuse(_, refusal) if refusal.code == RefusalCode::Secret));
}

#[test]
fn a_node_does_not_prove_anything_about_its_own_challenge() {
    // The forger is dialled by the node, dials it in turn, and lets it answer the challenge that it made itself.
    let meeting = Meeting::new();
    let node = Arc::new(meeting.acceptor.clone());
    let wanted = Wanted { name: "a@h".into(), incarnation: None };
    let (mut dials, hello_of_node) = Dialler::begin(&node, Lane::Data, wanted, VERSIONS, &[8; 32], &[]);
    let mut accepts = Greeter::new(&node, VERSIONS, [9; 32], &[]);
    let GreetStep::Send(challenge_of_node) = accepts.advance(&hello_of_node) else { panic!() };
    let Ok(DialStep::Send(proof_of_node)) = dials.advance(&challenge_of_node) else { panic!() };
    // The proof fits, since the node knows the secret; but it then meets itself.
    assert!(matches!(accepts.advance(&proof_of_node), GreetStep::Proven));
    let hello = accepts.hello().unwrap();
    let refusal = meeting.roster().judge(accepts.identity(), hello).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::WrongNode);
    // And what it proves as a dialler is no welcome.
    assert!(dials.advance(&proof_of_node).is_err());
}

#[test]
fn whoever_does_not_know_the_secret_lets_nobody_in() {
    let meeting = Meeting::new();
    let forger = Identity { secret: b"guess".to_vec(), ..meeting.acceptor.clone() };
    let (mut dialler, hello, _) = meeting.begin();
    let mut greeter = Greeter::new(&Arc::new(forger), VERSIONS, [4; 32], &[]);
    let GreetStep::Send(challenge) = greeter.advance(&hello) else { panic!() };
    let Ok(DialStep::Send(_)) = dialler.advance(&challenge) else { panic!() };
    // It lets the dialler in without having understood its proof.
    let welcome = forged_welcome();
    assert_eq!(dialler.advance(&welcome).unwrap_err(), DialFault::Secret);
}

#[test]
fn nobody_who_has_proved_nothing_can_tell_a_node_that_it_was_removed() {
    for code in [RefusalCode::NotAMember, RefusalCode::WrongCluster, RefusalCode::WrongIncarnation] {
        let meeting = Meeting::new();
        let (mut dialler, _, greeter) = meeting.begin();
        let forged = greeter.refuse(&Refusal::new(code, "archive your data"));
        assert_eq!(dialler.advance(&forged).unwrap_err(), DialFault::Malformed);
    }
}

#[test]
fn whatever_is_changed_on_the_way_is_noticed() {
    let meeting = Meeting::new();
    let (_, hello, _) = meeting.begin();
    for position in 5..hello.len() {
        let (mut dialler, mut hello, mut greeter) = meeting.begin();
        hello[position] ^= 1;
        let GreetStep::Send(challenge) = greeter.advance(&hello) else { continue };
        let Ok(DialStep::Send(proof)) = dialler.advance(&challenge) else { continue };
        let outcome = greeter.advance(&proof);
        assert!(matches!(outcome, GreetStep::Refuse(..)), "a changed byte {position} of the hello got through");
    }
}

#[test]
fn a_proof_is_bound_to_the_channel_and_to_the_lane() {
    let mut meeting = Meeting::new();
    meeting.bindings = (vec![1; 32], vec![1; 32]);
    assert!(meeting.hold().is_ok());
    meeting.bindings.1 = vec![2; 32];
    assert_eq!(meeting.refusal().code, RefusalCode::Secret);
}

#[test]
fn messages_out_of_turn_are_refused() {
    let meeting = Meeting::new();
    let (mut dialler, hello, mut greeter) = meeting.begin();
    let GreetStep::Send(challenge) = greeter.advance(&hello) else { panic!() };
    let Ok(DialStep::Send(proof)) = dialler.advance(&challenge) else { panic!() };
    assert!(dialler.advance(&challenge).is_err(), "a second challenge");
    assert!(matches!(greeter.advance(&hello), GreetStep::Refuse(..)), "a second hello");
    let (_, _, mut fresh) = meeting.begin();
    assert!(matches!(fresh.advance(&proof), GreetStep::Refuse(..)), "a proof before the hello");
    let (mut fresh, _, _) = meeting.begin();
    assert!(fresh.advance(&forged_welcome()).is_err(), "a welcome before the challenge");
}

#[test]
fn the_largest_identity_fits_into_a_hello() {
    let mut meeting = Meeting::new();
    let long = "x".repeat(255);
    meeting.dialler.agreed = (0..64).map(|_| (long.clone(), long.clone())).collect();
    assert_eq!(meeting.dialler.fault(), None);
    let (_, hello, _) = meeting.begin();
    assert!(hello.len() < MESSAGE_LEN_MAX);
    assert!(meeting.hold().is_ok());
    meeting.dialler.agreed.push((long.clone(), long));
    assert!(meeting.dialler.fault().unwrap().contains("64"));
}

#[test]
fn an_identity_that_no_peer_could_read_is_told() {
    let mut identity = identity("", 1);
    assert!(identity.fault().unwrap().starts_with("name"));
    identity.node.name = "a@h".into();
    identity.agreed = vec![("key".to_owned(), "x".repeat(256))];
    assert!(identity.fault().unwrap().contains("key"));
}

#[test]
fn a_hello_can_be_read_by_itself() {
    let (_, hello, mut greeter) = Meeting::new().begin();
    greeter.advance(&hello);
    let Hello { lane, wanted, node, .. } = greeter.hello().unwrap().clone();
    assert_eq!((lane, wanted.as_str(), &*node.name), (Lane::Data, "b@h", "a@h"));
}
