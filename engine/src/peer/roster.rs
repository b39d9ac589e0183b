//! Who may come in: the table by which a node judges a proven hello. Pure.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::hello::Hello;
use super::identity::{Identity, Incarnation};
use super::lane::Lane;
use super::refusal::{Refusal, RefusalCode};

/// What a peer may do here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Standing {
    /// It is not a member of this node's cluster, or this node is of none: it has the control lane, to change that.
    Guest = 1,
    /// All lanes.
    Member = 2,
}

/// The peers of this node, and whether others may come.
#[derive(Clone, Debug, Default)]
pub struct Roster {
    /// Incarnations by name; none: any.
    peers: HashMap<Arc<str>, Option<Incarnation>>,
    /// Data directories that were taken out of the cluster. Whoever joins again has another one.
    removed: HashSet<(Arc<str>, Incarnation)>,
    is_joining_allowed: bool,
}

impl Roster {
    /// A table of names with the incarnations that are expected of them.
    pub fn new(peers: impl IntoIterator<Item = (Arc<str>, Option<Incarnation>)>, is_joining_allowed: bool) -> Self {
        Self { peers: peers.into_iter().collect(), is_joining_allowed, ..Self::default() }
    }

    /// The same table, with nodes that were taken out of the cluster.
    #[must_use]
    pub fn with_removed(self, removed: impl IntoIterator<Item = (Arc<str>, Incarnation)>) -> Self {
        Self { removed: removed.into_iter().collect(), ..self }
    }

    /// The nodes that were taken out.
    pub fn removed(&self) -> impl Iterator<Item = &(Arc<str>, Incarnation)> {
        self.removed.iter()
    }

    /// What a node that has proved to know the secret may do here.
    pub fn judge(&self, own: &Identity, hello: &Hello) -> Result<Standing, Refusal> {
        let refuse = |code, text| Err(Refusal::new(code, text));
        let own_name = &own.node.name;
        if hello.node.boot == own.node.boot {
            let text = format!("the address of {} leads back to the node itself, {own_name}", hello.wanted);
            return refuse(RefusalCode::WrongNode, text);
        }
        if hello.wanted != **own_name {
            let text = format!("{} was looked for, and this is {own_name}: correct the address", hello.wanted);
            return refuse(RefusalCode::WrongNode, text);
        }
        if hello.node.name == *own_name {
            let text = format!("the name {own_name} is that of the node which was asked: give each node its own");
            return refuse(RefusalCode::NameTaken, text);
        }
        check_settings(own, hello)?;
        match (own.cluster, hello.cluster) {
            (Some(here), Some(there)) if here != there => refuse(
                RefusalCode::WrongCluster,
                format!("{own_name} is a member of the cluster {here}, and {} of {there}", hello.node.name),
            ),
            (Some(_), Some(_)) => self.judge_member(own, hello),
            _ => self.judge_guest(own, hello),
        }
    }

    fn judge_member(&self, own: &Identity, hello: &Hello) -> Result<Standing, Refusal> {
        let (name, own_name) = (&hello.node.name, &own.node.name);
        match self.peers.get(name) {
            Some(Some(expected)) if *expected != hello.node.incarnation => Err(Refusal::new(
                RefusalCode::WrongIncarnation,
                format!(
                    "{own_name} knows {name} with the data directory {expected}, and it has come with {}",
                    hello.node.incarnation
                ),
            )),
            Some(_) => Ok(Standing::Member),
            None if self.removed.contains(&(Arc::clone(name), hello.node.incarnation)) => Err(Refusal::new(
                RefusalCode::Removed,
                format!("{name} was taken out of the cluster of {own_name} while it was away"),
            )),
            None => Err(Refusal::new(
                RefusalCode::NotAMember,
                format!("{name} is not, or no longer, a member of the cluster of {own_name}: let it join again"),
            )),
        }
    }

    fn judge_guest(&self, own: &Identity, hello: &Hello) -> Result<Standing, Refusal> {
        let (name, own_name) = (&hello.node.name, &own.node.name);
        let is_expected = own.cluster.is_none() && self.peers.contains_key(name);
        if !is_expected && !self.is_joining_allowed {
            let text = format!("{own_name} lets no node join at the moment");
            return Err(Refusal::new(RefusalCode::JoiningClosed, text));
        }
        if hello.lane != Lane::Control {
            let text = format!("{name} has not joined the cluster of {own_name}, and has the control lane only");
            return Err(Refusal::new(RefusalCode::GuestLane, text));
        }
        Ok(Standing::Guest)
    }
}

/// What one end alone knows of may be of a later version, so only what both name is compared.
fn check_settings(own: &Identity, hello: &Hello) -> Result<(), Refusal> {
    for (name, here) in &own.agreed {
        let there = hello.agreed.iter().find(|(other, _)| other == name).map(|(_, value)| value);
        if let Some(there) = there
            && there != here
        {
            let text = format!(
                "{name} must be the same on all nodes: it is {here} on {} and {there} on {}",
                own.node.name, hello.node.name
            );
            return Err(Refusal::new(RefusalCode::Settings, text));
        }
    }
    Ok(())
}
