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
    /// From a log.
    Log,
    /// Not received: it marks a run that is open although no span or the wrong one stands for it.
    Marker,
}

impl Kind {
    const ALL: [Self; 7] = [
        Self::Run,
        Self::ModelCall,
        Self::ToolCall,
        Self::Span,
        Self::Other,
        Self::Log,
        Self::Marker,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::ModelCall => "model_call",
            Self::ToolCall => "tool_call",
            Self::Span => "span",
            Self::Other => "other",
            Self::Log => "log",
            Self::Marker => "marker",
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

/// What is known of a group.
#[derive(Debug)]
pub(crate) struct Group<'a> {
    pub(crate) id: &'a str,
    /// The records that wait.
    pub(crate) nodes: &'a [Node],
    /// The spans for which a provisional run is open.
    pub(crate) provisional: &'a HashSet<String>,
    /// The records above them that are settled, with their runs; an empty text stands for none.
    pub(crate) settled: &'a HashMap<String, String>,
    /// The span above the roots of all traces.
    pub(crate) top: Option<&'a str>,
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
    /// No run is above them.
    Top,
    /// A span above them has not arrived.
    Unknown,
    /// The span has to be looked up again once another one has been; only during the search.
    Open,
}

/// Returns the id of the run that a span is.
pub(crate) fn run_id(group: &str, span: &str) -> String {
    format!("{group}-{span}")
}

impl Group<'_> {
    pub(crate) fn plan(&self) -> Plan {
        let mut search = Search {
            group: self,
            index: (0..)
                .zip(self.nodes)
                .map(|(i, node)| (node.id.as_str(), i))
                .collect(),
            homes: vec![None; self.nodes.len()],
            is_agentic: self.settled.values().any(|run| !run.is_empty())
                || self.nodes.iter().any(|node| node.kind != Kind::Other),
            provisional: BTreeMap::new(),
        };
        let mut plan = Plan::default();
        for (place, node) in self.nodes.iter().enumerate() {
            let home = search.home_of(place);
            if node.kind == Kind::Log && home == Home::Top {
                // A log outside all spans belongs to the run of its group.
                let start = Start {
                    parent: None,
                    node: place,
                    is_own: false,
                };
                plan.starts.entry(self.id.to_owned()).or_insert(start);
                plan.events.push((place, self.id.to_owned()));
                continue;
            }
            if search.is_run(place, &home) {
                let parent = match home {
                    Home::Run(parent) => Some(parent),
                    _ => None,
                };
                let id = run_id(self.id, &node.id);
                if matches!(node.kind, Kind::ModelCall | Kind::ToolCall) {
                    plan.events
                        .push((place, parent.clone().unwrap_or_else(|| id.clone())));
                }
                plan.starts.insert(
                    id,
                    Start {
                        parent,
                        node: place,
                        is_own: true,
                    },
                );
                continue;
            }
            match home {
                Home::Run(run) => plan.events.push((place, run)),
                Home::Top if node.is_due && !search.is_agentic => plan.dropped.push(place),
                _ => plan.waiting += 1,
            }
        }
        plan.wrappers = search.wrappers();
        for (span, node) in search.provisional {
            let start = Start {
                parent: None,
                node,
                is_own: false,
            };
            plan.starts.entry(run_id(self.id, span)).or_insert(start);
        }
        plan
    }
}

struct Search<'a> {
    group: &'a Group<'a>,
    index: HashMap<&'a str, usize>,
    /// Where each node belongs, as far as it has been looked up.
    homes: Vec<Option<Home>>,
    is_agentic: bool,
    /// The missing spans that become provisional runs, with the first node below each.
    provisional: BTreeMap<&'a str, usize>,
}

impl<'a> Search<'a> {
    /// Returns where a node belongs. Follows its ancestors in a loop: a trace may be as deep as it
    /// has spans.
    fn home_of(&mut self, place: usize) -> Home {
        let mut path = vec![place];
        loop {
            let Some(&current) = path.last() else {
                return self.homes[place].clone().unwrap_or(Home::Top);
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
                _ => self.homes[current] = Some(Home::Top),
            }
        }
    }

    fn parent_of(&self, place: usize) -> Option<usize> {
        let parent = self.group.nodes[place].parent_id.as_deref()?;
        self.index.get(parent).copied()
    }

    /// Returns the model calls around others, with those inside them.
    fn wrappers(&self) -> BTreeMap<usize, Vec<usize>> {
        /// Wrappers call each other directly, or nearly so.
        const MAX_DISTANCE: usize = 8;

        let kind = |place: usize| self.group.nodes[place].kind;
        let mut wrappers: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for place in (0..self.group.nodes.len()).filter(|place| kind(*place) == Kind::ModelCall) {
            let mut above = self.parent_of(place);
            for _ in 0..MAX_DISTANCE {
                let Some(ancestor) = above.filter(|it| *it != place && kind(*it) != Kind::Run)
                else {
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
            return Home::Top;
        };
        if group.top == Some(parent) {
            return Home::Top;
        }
        if let Some(&above) = self.index.get(parent) {
            return match self.homes[above].clone() {
                Some(Home::Open) | None => Home::Open,
                Some(home) if self.is_run(above, &home) => Home::Run(run_id(group.id, parent)),
                Some(home) => home,
            };
        }
        match group.settled.get(parent) {
            Some(run) if run.is_empty() => Home::Top,
            Some(run) => Home::Run(run.clone()),
            None if node.is_due || group.provisional.contains(parent) => {
                if !group.provisional.contains(parent) {
                    self.provisional.entry(parent).or_insert(place);
                }
                Home::Run(run_id(group.id, parent))
            }
            None => Home::Unknown,
        }
    }

    /// Whether a node becomes a run, given where it belongs.
    fn is_run(&self, place: usize, home: &Home) -> bool {
        let node = &self.group.nodes[place];
        match (node.kind, home) {
            (_, Home::Unknown | Home::Open) | (Kind::Log | Kind::Marker, _) => false,
            (Kind::Run, _) | (Kind::ModelCall | Kind::ToolCall | Kind::Span, Home::Top) => true,
            (Kind::Other, Home::Top) => self.is_agentic,
            // Events below it are already stored in its run.
            (_, Home::Run(_)) => self.group.provisional.contains(&node.id),
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
        let settled = settled
            .iter()
            .map(|(id, run)| ((*id).to_owned(), (*run).to_owned()));
        let group = Group {
            id: "t",
            nodes,
            settled: &settled.collect(),
            provisional: &provisional.iter().map(|id| (*id).to_owned()).collect(),
            top: Some("top"),
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
            node("outer", Some("top"), Kind::Run),
        ];
        assert_eq!(
            plan(&nodes),
            "t-inner below t-outer, t-outer below -, tool in t-outer"
        );
    }

    #[test]
    fn the_events_of_a_run_wait_as_long_as_it_does() {
        let nodes = [
            node("c", Some("inner"), Kind::ModelCall),
            node("inner", Some("missing"), Kind::Run),
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
    fn a_model_call_around_another_is_a_wrapper() {
        let nodes = [
            node("inner", Some("step"), Kind::ModelCall),
            node("step", Some("outer"), Kind::Span),
            node("outer", Some("agent"), Kind::ModelCall),
            node("agent", Some("around"), Kind::Run),
            node("around", None, Kind::ModelCall),
        ];
        let group = Group {
            id: "t",
            nodes: &nodes,
            settled: &HashMap::new(),
            provisional: &HashSet::new(),
            top: None,
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
