//! Who has to go when a new flow comes; the order is the table in the module header above.

use smoltcp::time::{Duration, Instant};
use smoltcp::wire::Ipv4Address;

use super::list::List;
use super::{Class, Counter, Refused, Table, host_of};
use crate::budget::{
    DATAGRAM_EVICT_IDLE, FLOW_STEPS_MAX, FLOWS, FLOWS_FRESH_PER_HOST_MAX, FLOWS_PER_HOST_MAX,
    FRESH_EVICT_IDLE, TCP_EVICT_IDLE,
};

impl Table {
    /// Sees to it that one more flow of `client` has a place.
    pub(super) fn make_room(&mut self, now: Instant, client: Ipv4Address) -> Result<(), Refused> {
        let host = host_of(client);
        if usize::from(self.fresh[host]) >= FLOWS_FRESH_PER_HOST_MAX
            && !self.evict_fresh(now, Some(host), None)
        {
            return Err(Refused::Host);
        }
        if usize::from(self.live[host]) >= FLOWS_PER_HOST_MAX
            && !self.evict_fresh(now, Some(host), None)
            && !self.evict(now, Class::Datagram, Some(host), Some(DATAGRAM_EVICT_IDLE))
        {
            return Err(Refused::Host);
        }
        if self.len() < FLOWS || self.evict_any(now) {
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
    fn evict_fresh(&mut self, now: Instant, host: Option<usize>, idle: Option<Duration>) -> bool {
        let (first, second) = if self.list(Class::Embryo).len() >= self.list(Class::Single).len() {
            (Class::Embryo, Class::Single)
        } else {
            (Class::Single, Class::Embryo)
        };
        self.evict(now, first, host, idle) || self.evict(now, second, host, idle)
    }

    /// Ends the first flow of a class that fits, of those that have been in it longest. One that
    /// was passed over because it is not silent goes to the end of the line, so that the next
    /// search starts behind it.
    fn evict(
        &mut self,
        now: Instant,
        class: Class,
        host: Option<usize>,
        idle: Option<Duration>,
    ) -> bool {
        let mut at = self.list(class).front();
        for _ in 0..FLOW_STEPS_MAX.min(self.list(class).len()) {
            let Some(index) = at else { return false };
            at = List::after(&self.class_links, index);
            let entry = &self.entries[usize::from(index)];
            let is_hosts = host.is_none_or(|host| host_of(entry.key.client) == host);
            let is_silent =
                idle.is_none_or(|idle| entry.last_seen + idle <= now) && !entry.is_pinned();
            if is_hosts && is_silent {
                self.counts.bump(match class {
                    Class::Over | Class::Free => Counter::EvictedOver,
                    Class::Embryo | Class::Single => Counter::EvictedFresh,
                    Class::Datagram => Counter::EvictedDatagram,
                    Class::Established => Counter::EvictedEstablished,
                });
                self.remove_index(index);
                return true;
            }
            if !is_silent && matches!(class, Class::Datagram | Class::Established) {
                let list = &mut self.classes[class as usize];
                list.remove(&mut self.class_links, index);
                list.push_back(&mut self.class_links, index);
            }
        }
        false
    }

    fn list(&self, class: Class) -> &List {
        &self.classes[class as usize]
    }
}
