//! Names and filters as MQTT 5 section 4.7 has them.

use super::MAX_TOPIC_BYTES;

/// Begins the filter of a shared subscription, which goes on with the group and the filter proper.
const SHARE: &str = "$share/";

/// Whether a message may be published there.
pub fn valid_topic_name(topic: &str) -> bool {
    is_bounded(topic) && !topic.contains(['+', '#'])
}

/// Whether it may be subscribed to, with or without a shared group.
pub fn valid_filter(filter: &str) -> bool {
    if !is_bounded(filter) {
        return false;
    }
    let filter = match filter.strip_prefix(SHARE) {
        None => filter,
        Some(rest) => match rest.split_once('/') {
            Some((group, filter)) if !group.is_empty() && !group.contains(['+', '#']) => filter,
            _ => return false,
        },
    };
    let wildcards_alone = |level: &str| level.len() == 1 || !level.contains(['+', '#']);
    let hash_last = !filter.contains('#') || filter.find('#') == Some(filter.len() - 1);
    !filter.is_empty() && hash_last && filter.split('/').all(wildcards_alone)
}

fn is_bounded(text: &str) -> bool {
    (1..=MAX_TOPIC_BYTES).contains(&text.len()) && !text.contains('\0')
}

/// Whether a message on this topic reaches a subscription to this filter. A shared subscription matches as the filter
/// after its group; what is no filter matches nothing.
pub fn topic_matches_filter(topic: &str, filter: &str) -> bool {
    if !valid_topic_name(topic) || !valid_filter(filter) {
        return false;
    }
    let filter = proper(filter);
    // A wildcard in front stands for user topics, not for the broker's own (MQTT-4.7.2-1).
    if topic.starts_with('$') && begins_wild(filter) {
        return false;
    }
    let (mut topic, mut filter) = (topic.split('/'), filter.split('/'));
    loop {
        match (topic.next(), filter.next()) {
            (_, Some("#")) => return true,
            (Some(_), Some("+")) => {}
            (Some(level), Some(wanted)) if level == wanted => {}
            (None, None) => return true,
            _ => return false,
        }
    }
}

/// Whether some topic matches both filters; a topic without wildcards is a filter that matches itself. That is how a
/// loop is found before it runs: an output that overlaps an input. What is no filter overlaps nothing.
pub fn filters_overlap(a: &str, b: &str) -> bool {
    if !valid_filter(a) || !valid_filter(b) {
        return false;
    }
    let (a, b) = (proper(a), proper(b));
    if (a.starts_with('$') && begins_wild(b)) || (b.starts_with('$') && begins_wild(a)) {
        return false;
    }
    // Their only common topic would be the empty one, which is none.
    if matches!((a, b), ("+", "/#") | ("/#", "+")) {
        return false;
    }
    let (mut a, mut b) = (a.split('/'), b.split('/'));
    loop {
        match (a.next(), b.next()) {
            // "#" stands for the level before it too: "a/#" matches "a".
            (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
            (Some(left), Some(right)) if left == right || left == "+" || right == "+" => {}
            _ => return false,
        }
    }
}

/// The filter without the group of a shared subscription.
fn proper(filter: &str) -> &str {
    let shared = filter.strip_prefix(SHARE).and_then(|rest| rest.split_once('/'));
    shared.map_or(filter, |(_, filter)| filter)
}

fn begins_wild(filter: &str) -> bool {
    filter.starts_with(['+', '#'])
}
