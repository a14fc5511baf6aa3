//! Who has to go when a new flow comes; the order is the table in the module header above.

use smoltcp::time::{Duration, Instant};

use super::list::List;
use super::{ACCOUNT_LENT, ACCOUNT_OUTSIDE, ACCOUNTS, Class, Counter, Refused, Table};
use crate::budget::{
    DATAGRAM_EVICT_IDLE, FLOW_STEPS_MAX, FLOWS, FLOWS_FRESH_OUTSIDE_MAX, FLOWS_FRESH_PER_HOST_MAX,
    FLOWS_OUTSIDE_MAX, FLOWS_PER_HOST_MAX, FRESH_EVICT_IDLE, LENT_FLOWS_FRESH_MAX, LENT_FLOWS_MAX,
    TCP_EVICT_IDLE,
};

/// So many unanswered flows are what everybody would have if the table were full of them and all
/// accounts shared it equally.
const MODEST: u16 = (FLOWS / ACCOUNTS) as u16;

impl Table {
    /// Sees to it that one more flow of `account` has a place.
    pub(super) fn make_room(&mut self, now: Instant, account: u16) -> Result<(), Refused> {
        let of = usize::from(account);
        let (fresh_max, live_max, full) = if account == ACCOUNT_OUTSIDE {
            (FLOWS_FRESH_OUTSIDE_MAX, FLOWS_OUTSIDE_MAX, Refused::Inbound)
        } else if account >= ACCOUNT_LENT {
            (LENT_FLOWS_FRESH_MAX, LENT_FLOWS_MAX, Refused::Host)
        } else {
            (FLOWS_FRESH_PER_HOST_MAX, FLOWS_PER_HOST_MAX, Refused::Host)
        };
        if usize::from(self.fresh[of]) >= fresh_max && !self.evict_fresh(now, Some(account), None) {
            return Err(full);
        }
        if usize::from(self.live[of]) >= live_max
            && !self.evict_fresh(now, Some(account), None)
            && !self.evict(
                now,
                Class::Datagram,
                Some(account),
                Some(DATAGRAM_EVICT_IDLE),
            )
        {
            return Err(full);
        }
        // The lender comes first: none of its own flows that may still be needed goes for a neighbour's.
        let has_gone = |table: &mut Self| match account >= ACCOUNT_LENT {
            true => table.evict(now, Class::Over, None, None),
            false => table.evict_any(now),
        };
        if self.len() < FLOWS || has_gone(self) {
            Ok(())
        } else {
            Err(Refused::Full)
        }
    }

    fn evict_any(&mut self, now: Instant) -> bool {
        self.evict(now, Class::Over, None, None)
            || self.evict_fresh(now, None, Some(FRESH_EVICT_IDLE))
            || self.evict(now, Class::Datagram, None, Some(DATAGRAM_EVICT_IDLE))
            || self.evict_fresh(now, None, None)
            || self.evict(now, Class::Established, None, Some(TCP_EVICT_IDLE))
    }

    /// Ends the oldest unanswered flow, of the more numerous kind if possible.
    fn evict_fresh(&mut self, now: Instant, account: Option<u16>, idle: Option<Duration>) -> bool {
        let (first, second) = if self.list(Class::Embryo).len() >= self.list(Class::Single).len() {
            (Class::Embryo, Class::Single)
        } else {
            (Class::Single, Class::Embryo)
        };
        self.evict(now, first, account, idle) || self.evict(now, second, account, idle)
    }

    /// Ends the first flow of a class that fits, of those that have been in it longest. A long one
    /// that was passed over because it is not silent goes to the end of the line, so that the next
    /// search starts behind it.
    fn evict(
        &mut self,
        now: Instant,
        class: Class,
        account: Option<u16>,
        idle: Option<Duration>,
    ) -> bool {
        let mut at = self.list(class).front();
        let mut modest = None;
        for _ in 0..FLOW_STEPS_MAX.min(self.list(class).len()) {
            let Some(index) = at else { break };
            at = List::after(&self.class_links, index);
            let entry = &self.entries[usize::from(index)];
            let fits = account.is_none_or(|account| entry.account == account);
            let is_silent =
                idle.is_none_or(|idle| entry.last_seen + idle <= now) && !entry.is_pinned();
            // In a flood from many addresses the one with few unanswered flows is not it: its
            // flows go only when nothing else is found.
            let is_modest = account.is_none()
                && entry.is_fresh()
                && self.fresh[usize::from(entry.account)] <= MODEST;
            if fits && is_silent && !is_modest {
                self.end(index);
                return true;
            }
            if fits && is_silent {
                modest = modest.or(Some(index));
            }
            if !is_silent && matches!(class, Class::Datagram | Class::Established) {
                let list = &mut self.classes[class as usize];
                list.remove(&mut self.class_links, index);
                list.push_back(&mut self.class_links, index);
            }
        }
        if let Some(index) = modest {
            self.end(index);
        }
        modest.is_some()
    }

    /// Gives a flow away.
    fn end(&mut self, index: u16) {
        self.counts
            .bump(match self.entries[usize::from(index)].class {
                Class::Over | Class::Free => Counter::EvictedOver,
                Class::Embryo | Class::Single => Counter::EvictedFresh,
                Class::Datagram => Counter::EvictedDatagram,
                Class::Established => Counter::EvictedEstablished,
            });
        self.remove_index(index);
    }

    fn list(&self, class: Class) -> &List {
        &self.classes[class as usize]
    }
}
