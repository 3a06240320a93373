//! Where staged records belong: a pure function of what is known of a group.

use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::{DateTime, Utc};

/// What a staged record is, as the text in its column `kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Run,
    ModelCall,
    ToolCall,
    /// Another span of an agent.
    Span,
    /// A span that says nothing of agents.
    Other,
    /// A log about agents.
    Log,
    /// Another log.
    OtherLog,
    /// Written by the receiver: marks an open run that has no span of its own.
    Marker,
    /// Written by a host: stands for a run that the host records itself.
    Host,
}

impl Kind {
    const ALL: [Self; 9] = [
        Self::Run,
        Self::ModelCall,
        Self::ToolCall,
        Self::Span,
        Self::Other,
        Self::Log,
        Self::OtherLog,
        Self::Marker,
        Self::Host,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::ModelCall => "model_call",
            Self::ToolCall => "tool_call",
            Self::Span => "span",
            Self::Other => "other",
            Self::Log => "log",
            Self::OtherLog => "other_log",
            Self::Marker => "marker",
            Self::Host => "host",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// A record that waits.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) id: String,
    pub(crate) parent_id: Option<String>,
    pub(crate) kind: Kind,
    pub(crate) at: DateTime<Utc>,
    /// Whether it has waited long enough for the span above it.
    pub(crate) is_due: bool,
}

/// A record that is settled.
#[derive(Clone, Debug)]
pub(crate) struct Settled {
    /// Its run; an empty text stands for none.
    pub(crate) run: String,
    pub(crate) kind: Kind,
}

/// What is known of a group.
#[derive(Debug)]
pub(crate) struct Group<'a> {
    pub(crate) id: &'a str,
    /// The records that wait.
    pub(crate) nodes: &'a [Node],
    /// The spans for which a provisional run is open.
    pub(crate) provisional: &'a HashSet<String>,
    /// The records above them that are settled.
    pub(crate) settled: &'a HashMap<String, Settled>,
}

/// A run that is to be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    /// The run above it, if any.
    pub(crate) parent: Option<String>,
    /// The node that describes it.
    pub(crate) node: usize,
    /// Whether that node is the run itself, and not only one of its events.
    pub(crate) is_own: bool,
}

/// What is to be done with the records of a group.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The runs to start, by their ids.
    pub(crate) starts: BTreeMap<String, Start>,
    /// The records that are events, with their runs.
    pub(crate) events: Vec<(usize, String)>,
    /// The model calls around others, which may report the tokens of those again.
    pub(crate) wrappers: BTreeMap<usize, Vec<usize>>,
    /// The records that belong to no run.
    pub(crate) dropped: Vec<usize>,
    /// The number of records that have to wait.
    pub(crate) waiting: usize,
}

/// Where the children of a span belong.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Home {
    Run(String),
    /// No received run is above them; the text is the host's run, if any.
    Top(Option<String>),
    /// A span above them has not arrived.
    Unknown,
    /// Its parent is still being resolved. Never leaves the search.
    Open,
}

/// Returns the id of the run that a span is.
pub(crate) fn run_id(group: &str, span: &str) -> String {
    format!("{group}-{span}")
}

/// The most missing spans of a group that get provisional runs. The records below the others
/// belong to the run of the group.
const MAX_PROVISIONAL: usize = 32;

impl Group<'_> {
    /// Whether any known record is about agents.
    fn is_agentic(&self) -> bool {
        let is_other = |kind| matches!(kind, Kind::Other | Kind::OtherLog);
        let mut settled = self.settled.values();
        !self.provisional.is_empty()
            || self.nodes.iter().any(|node| !is_other(node.kind))
            || settled.any(|record| !record.run.is_empty() && record.kind != Kind::Host)
    }

    pub(crate) fn plan(&self) -> Plan {
        let index = (0..).zip(self.nodes);
        let mut search = Search {
            group: self,
            index: index
                .map(|(place, node)| (node.id.as_str(), place))
                .collect(),
            homes: vec![None; self.nodes.len()],
            leading: HashSet::new(),
            provisional: BTreeMap::new(),
        };
        search.leading = search.leading();
        let mut plan = Plan::default();
        if !self.is_agentic() {
            let (due, waiting): (Vec<_>, Vec<_>) =
                (0..self.nodes.len()).partition(|place| self.nodes[*place].is_due);
            plan.dropped = due;
            plan.waiting = waiting.len();
            return plan;
        }
        for (place, node) in self.nodes.iter().enumerate() {
            let home = search.home_of(place);
            let parent = match &home {
                Home::Run(parent) | Home::Top(Some(parent)) => Some(parent.clone()),
                _ => None,
            };
            if search.is_run(place, &home) {
                let run = run_id(self.id, &node.id);
                if matches!(node.kind, Kind::ModelCall | Kind::ToolCall) {
                    let above = match &home {
                        Home::Run(above) => above.clone(),
                        _ => run.clone(),
                    };
                    plan.events.push((place, above));
                }
                let is_own = true;
                plan.starts.insert(
                    run,
                    Start {
                        parent,
                        node: place,
                        is_own,
                    },
                );
                continue;
            }
            match home {
                Home::Run(run) => plan.events.push((place, run)),
                // A plain span that leads to no agent, such as one of the program that a host runs.
                Home::Top(_) if node.kind == Kind::Other => match node.is_due {
                    true => plan.dropped.push(place),
                    false => plan.waiting += 1,
                },
                // A log outside all spans belongs to the run of its group.
                Home::Top(_) => {
                    let run = self.id.to_owned();
                    let is_own = false;
                    let start = Start {
                        parent,
                        node: place,
                        is_own,
                    };
                    plan.starts.entry(run.clone()).or_insert(start);
                    plan.events.push((place, run));
                }
                Home::Unknown | Home::Open => plan.waiting += 1,
            }
        }
        plan.wrappers = search.wrappers();
        for (span, node) in search.provisional {
            let (parent, is_own) = (None, false);
            let run = match span {
                Some(span) => run_id(self.id, span),
                None => self.id.to_owned(),
            };
            plan.starts.entry(run).or_insert(Start {
                parent,
                node,
                is_own,
            });
        }
        plan
    }
}

struct Search<'a> {
    group: &'a Group<'a>,
    index: HashMap<&'a str, usize>,
    /// The nodes that are above agents, model calls or tool calls.
    leading: HashSet<usize>,
    /// Where each node belongs, as far as it has been looked up.
    homes: Vec<Option<Home>>,
    /// The missing spans that become provisional runs, with the first node below each. `None`
    /// stands for the run of the group.
    provisional: BTreeMap<Option<&'a str>, usize>,
}

impl<'a> Search<'a> {
    /// Returns where a node belongs. Follows its ancestors in a loop: a trace may be as deep as it
    /// has spans.
    fn home_of(&mut self, place: usize) -> Home {
        let mut path = vec![place];
        loop {
            let Some(&current) = path.last() else {
                return self.homes[place].clone().unwrap_or(Home::Top(None));
            };
            if matches!(self.homes[current], Some(ref home) if *home != Home::Open) {
                path.pop();
                continue;
            }
            let home = self.home_below_parent(current);
            if home != Home::Open {
                self.homes[current] = Some(home);
                path.pop();
                continue;
            }
            // The parent's own home decides.
            let parent = self.parent_of(current);
            match parent {
                Some(parent) if self.homes[parent].is_none() => {
                    self.homes[current] = Some(Home::Open);
                    path.push(parent);
                }
                // A cycle: there is no root.
                _ => self.homes[current] = Some(Home::Top(None)),
            }
        }
    }

    fn parent_of(&self, place: usize) -> Option<usize> {
        let parent = self.group.nodes[place].parent_id.as_deref()?;
        self.index.get(parent).copied()
    }

    fn leading(&self) -> HashSet<usize> {
        let nodes = self.group.nodes;
        let mut leading = HashSet::new();
        for place in (0..nodes.len()).filter(|place| nodes[*place].kind != Kind::Other) {
            let mut above = self.parent_of(place);
            // What is above a known one is known, too.
            while let Some(ancestor) = above.filter(|ancestor| leading.insert(*ancestor)) {
                above = self.parent_of(ancestor);
            }
        }
        leading
    }

    /// Returns the model calls around others that wait, with those inside them. A model that is
    /// called by a tool has its own tokens, even if the span of the tool is inside that of the call
    /// that asked for it.
    fn wrappers(&self) -> BTreeMap<usize, Vec<usize>> {
        /// Wrappers call each other directly, or nearly so.
        const MAX_DISTANCE: usize = 8;

        let nodes = self.group.nodes;
        let kind = |place: usize| nodes[place].kind;
        let mut wrappers: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for place in (0..nodes.len()).filter(|place| kind(*place) == Kind::ModelCall) {
            let mut above = self.parent_of(place);
            for _ in 0..MAX_DISTANCE {
                let is_inside = |ancestor: &usize| {
                    *ancestor != place && !matches!(kind(*ancestor), Kind::Run | Kind::ToolCall)
                };
                let Some(ancestor) = above.filter(is_inside) else {
                    break;
                };
                if kind(ancestor) == Kind::ModelCall {
                    wrappers.entry(ancestor).or_default().push(place);
                }
                above = self.parent_of(ancestor);
            }
        }
        wrappers
    }

    /// Returns where a node belongs, given its parent.
    fn home_below_parent(&mut self, place: usize) -> Home {
        let group = self.group;
        let node = &group.nodes[place];
        let Some(parent) = node.parent_id.as_deref() else {
            return Home::Top(None);
        };
        if let Some(&above) = self.index.get(parent) {
            return match self.homes[above].clone() {
                Some(Home::Open) | None => Home::Open,
                Some(home) if self.is_run(above, &home) => Home::Run(run_id(group.id, parent)),
                Some(home) => home,
            };
        }
        if group.provisional.contains(parent) {
            return Home::Run(run_id(group.id, parent));
        }
        match group.settled.get(parent) {
            Some(Settled { run, .. }) if run.is_empty() => Home::Top(None),
            Some(Settled {
                run,
                kind: Kind::Host,
            }) => Home::Top(Some(run.clone())),
            Some(Settled { run, .. }) => Home::Run(run.clone()),
            None if !node.is_due => Home::Unknown,
            // Only what is about agents is worth a run of its own.
            None if matches!(node.kind, Kind::Other | Kind::OtherLog) => Home::Top(None),
            None => {
                let known = group.provisional.len() + self.provisional.len();
                let is_new = !self.provisional.contains_key(&Some(parent));
                if is_new && known >= MAX_PROVISIONAL {
                    self.provisional.entry(None).or_insert(place);
                    return Home::Run(group.id.to_owned());
                }
                self.provisional.entry(Some(parent)).or_insert(place);
                Home::Run(run_id(group.id, parent))
            }
        }
    }

    /// Whether a node becomes a run, given where it belongs.
    fn is_run(&self, place: usize, home: &Home) -> bool {
        let group = self.group;
        let node = &group.nodes[place];
        match (node.kind, home) {
            (_, Home::Unknown | Home::Open) => false,
            (Kind::Log | Kind::OtherLog | Kind::Marker | Kind::Host, _) => false,
            (Kind::Other, Home::Top(above)) => {
                let is_root = above.is_none() && node.parent_id.is_none();
                is_root || self.leading.contains(&place) || group.provisional.contains(&node.id)
            }
            (Kind::Run, _) | (_, Home::Top(_)) => true,
            // Events below it are already stored in its run.
            (_, Home::Run(_)) => group.provisional.contains(&node.id),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::slice;

    use super::*;

    fn node(id: &str, parent: Option<&str>, kind: Kind) -> Node {
        Node {
            id: id.to_owned(),
            parent_id: parent.map(str::to_owned),
            kind,
            is_due: false,
            at: DateTime::UNIX_EPOCH,
        }
    }

    fn due(node: Node) -> Node {
        Node {
            is_due: true,
            ..node
        }
    }

    /// Returns a plan in words: the runs with their parents, then the events with their runs.
    fn plan_with(nodes: &[Node], settled: &[(&str, &str)], provisional: &[&str]) -> String {
        let settled = settled.iter().map(|(id, run)| {
            let kind = match *id {
                "host" => Kind::Host,
                _ => Kind::Span,
            };
            let run = (*run).to_owned();
            ((*id).to_owned(), Settled { run, kind })
        });
        let group = Group {
            id: "t",
            nodes,
            settled: &settled.collect(),
            provisional: &provisional.iter().map(|id| (*id).to_owned()).collect(),
        };
        let plan = group.plan();
        let mut words = Vec::new();
        for (id, start) in &plan.starts {
            let own = if start.is_own { "" } else { "?" };
            let parent = start.parent.as_deref().unwrap_or("-");
            words.push(format!("{id}{own} below {parent}"));
        }
        for (place, run) in &plan.events {
            words.push(format!("{} in {run}", nodes[*place].id));
        }
        for place in &plan.dropped {
            words.push(format!("{} dropped", nodes[*place].id));
        }
        if plan.waiting > 0 {
            words.push(format!("{} waiting", plan.waiting));
        }
        words.join(", ")
    }

    fn plan(nodes: &[Node]) -> String {
        plan_with(nodes, &[], &[])
    }

    #[test]
    fn children_wait_for_the_run_above_them() {
        let call = node("c", Some("s"), Kind::ModelCall);
        let step = node("s", Some("a"), Kind::Other);
        let agent = node("a", None, Kind::Run);
        assert_eq!(plan(slice::from_ref(&call)), "1 waiting");
        assert_eq!(plan(&[call.clone(), step.clone()]), "2 waiting");
        assert_eq!(
            plan(&[call, step, agent]),
            "t-a below -, c in t-a, s in t-a"
        );
    }

    #[test]
    fn an_agent_below_a_tool_is_a_child_run() {
        let nodes = [
            node("inner", Some("tool"), Kind::Run),
            node("tool", Some("outer"), Kind::ToolCall),
            node("outer", None, Kind::Run),
        ];
        assert_eq!(
            plan(&nodes),
            "t-inner below t-outer, t-outer below -, tool in t-outer"
        );
    }

    #[test]
    fn a_run_waits_for_the_span_above_it_and_its_events_with_it() {
        let nodes = [
            node("inner", Some("tool"), Kind::Run),
            node("c", Some("inner"), Kind::ModelCall),
        ];
        assert_eq!(plan(&nodes), "2 waiting");
    }

    #[test]
    fn the_root_of_a_trace_with_agents_is_a_run() {
        let root = node("r", None, Kind::Other);
        let call = node("c", Some("r"), Kind::ModelCall);
        assert_eq!(plan(&[root, call.clone()]), "t-r below -, c in t-r");
        // A call that is the root is a run with itself as an event.
        assert_eq!(
            plan(&[node("c", None, Kind::ModelCall)]),
            "t-c below -, c in t-c"
        );
    }

    #[test]
    fn a_trace_without_agents_is_dropped_once_it_has_waited() {
        let nodes = [
            node("r", None, Kind::Other),
            node("s", Some("r"), Kind::Other),
        ];
        assert_eq!(plan(&nodes), "2 waiting");
        assert_eq!(plan(&nodes.map(due)), "r dropped, s dropped");
    }

    #[test]
    fn a_plain_span_that_leads_to_no_agent_is_no_run() {
        let nodes = [
            node("a", None, Kind::Run),
            due(node("o", Some("gone"), Kind::Other)),
            due(node("p", Some("missing"), Kind::Other)),
        ];
        let expected = "t-a below -, o dropped, p dropped";
        assert_eq!(plan_with(&nodes, &[("gone", "")], &[]), expected);
    }

    #[test]
    fn settled_spans_lead_to_their_runs() {
        let nodes = [
            node("c", Some("s"), Kind::ModelCall),
            node("d", Some("gone"), Kind::ModelCall),
        ];
        let settled = [("s", "t-a"), ("gone", "")];
        let expected = "t-d below -, c in t-a, d in t-d";
        assert_eq!(plan_with(&nodes, &settled, &[]), expected);
    }

    #[test]
    fn roots_below_the_span_of_a_host_are_children_of_its_run() {
        let nodes = [
            node("a", Some("host"), Kind::Run),
            node("c", Some("host"), Kind::ModelCall),
            node("l", Some("host"), Kind::Log),
        ];
        let settled = [("host", "run-7")];
        let expected = "t? below run-7, t-a below run-7, t-c below run-7, c in t-c, l in t";
        assert_eq!(plan_with(&nodes, &settled, &[]), expected);
        let nodes = [
            node("a", Some("above"), Kind::Run),
            node("above", Some("host"), Kind::Other),
            node("beside", Some("host"), Kind::Other),
        ];
        let expected = "t-a below t-above, t-above below run-7, 1 waiting";
        assert_eq!(plan_with(&nodes, &settled, &[]), expected);
        let late = [node("above", Some("host"), Kind::Other)];
        assert_eq!(
            plan_with(&late, &settled, &["above"]),
            "t-above below run-7"
        );
        // The host's run doesn't make a trace one of agents.
        let other = due(node("o", Some("host"), Kind::Other));
        assert_eq!(plan_with(&[other], &settled, &[]), "o dropped");
    }

    #[test]
    fn the_number_of_provisional_runs_is_limited() {
        let mut nodes = Vec::new();
        for number in 0..100 {
            let parent = format!("p{number:02}");
            nodes.push(due(node(
                &format!("{number}"),
                Some(&parent),
                Kind::ModelCall,
            )));
        }
        let plan = plan(&nodes);
        assert_eq!(plan.matches("? below -").count(), MAX_PROVISIONAL + 1);
        assert!(plan.ends_with("98 in t, 99 in t"), "{plan}");
    }

    #[test]
    fn a_missing_span_gets_a_provisional_run() {
        let nodes = [
            due(node("c", Some("s"), Kind::ModelCall)),
            node("d", Some("other"), Kind::ModelCall),
        ];
        assert_eq!(plan(&nodes), "t-s? below -, c in t-s, 1 waiting");
        // Later ones belong to it at once, and when it arrives it stays a run.
        let late = [node("d", Some("s"), Kind::ModelCall)];
        assert_eq!(plan_with(&late, &[], &["s"]), "d in t-s");
        let span = [node("s", Some("a"), Kind::ModelCall)];
        let settled = [("a", "t-a")];
        assert_eq!(
            plan_with(&span, &settled, &["s"]),
            "t-s below t-a, s in t-a"
        );
    }

    #[test]
    fn logs_outside_spans_belong_to_the_run_of_their_group() {
        let nodes = [
            node("l", None, Kind::Log),
            node("m", Some("a"), Kind::Log),
            node("a", None, Kind::Run),
        ];
        assert_eq!(plan(&nodes), "t? below -, t-a below -, l in t, m in t-a");
    }

    #[test]
    fn a_model_call_around_another_repeats_its_tokens() {
        let nodes = [
            node("inner", Some("step"), Kind::ModelCall),
            node("step", Some("outer"), Kind::Span),
            node("outer", Some("agent"), Kind::ModelCall),
            node("agent", Some("around"), Kind::Run),
            node("around", None, Kind::ModelCall),
            node("called", Some("tool"), Kind::ModelCall),
            node("tool", Some("asks"), Kind::ToolCall),
            node("asks", Some("agent"), Kind::ModelCall),
        ];
        let group = Group {
            id: "t",
            nodes: &nodes,
            settled: &HashMap::new(),
            provisional: &HashSet::new(),
        };
        assert_eq!(group.plan().wrappers, BTreeMap::from([(2, vec![0])]));
    }

    #[test]
    fn cycles_and_deep_traces_end() {
        let cycle = [
            node("a", Some("b"), Kind::ModelCall),
            node("b", Some("a"), Kind::ModelCall),
        ];
        assert!(!plan(&cycle).contains("waiting"), "{}", plan(&cycle));
        assert_eq!(plan(&[node("a", Some("a"), Kind::Run)]), "t-a below -");
        let depth = 100_000;
        let deep: Vec<_> = (0..depth)
            .map(|i| {
                let parent = (i > 0).then(|| format!("{}", i - 1));
                node(&format!("{i}"), parent.as_deref(), Kind::Other)
            })
            .rev()
            .chain([node("x", Some("99999"), Kind::ModelCall)])
            .collect();
        assert!(plan(&deep).starts_with("t-0 below -, 99999 in t-0"));
    }
}
