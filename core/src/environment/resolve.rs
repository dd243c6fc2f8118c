//! Merges the layers, completes them with defaults, and judges the whole: syntax, keys and values first, then what values mean
//! together, then policies. A fault in one place hides none in another; what rests on a faulty value is not judged.

use semver::{Version, VersionReq};

use super::{
    Finding, Request, alternatives, contradictions,
    faults::{Draft, Fault, Faults, Place, Sink},
    file::{Root, SCHEMA, Waiver},
    layers::{self, Rank},
    reader::Rename,
    slot::{Entry, Slot},
    specify::specify,
    table::Declared,
    texts,
};
use crate::{Spec, policy};

pub(crate) fn resolve(request: &Request<'_>, renames: &[Rename]) -> Result<(Spec, Vec<Fault>), Faults> {
    let (layers, ranks) = layers::of(request);
    let mut sink = Sink::new(&layers);
    let env_layer = Place::of(u16::try_from(ranks.len()).unwrap_or(u16::MAX), 0..request.environment.len());
    if let Err((why, instead)) = texts::check_name(request.environment) {
        let draft = Draft::error(format!("this can't name an environment: {why}")).suggest(instead);
        sink.add(env_layer, draft);
    }
    if ranks.iter().filter(|rank| **rank == Rank::Sets).count() < request.sets.len() {
        sink.add(env_layer, Draft::error("there are more settings on the command line than dbird takes"));
    }

    let (mut root, mut whole, mut headed) = (Root::default(), true, true);
    for ((layer, rank), index) in layers.iter().zip(&ranks).zip(0u16..) {
        let read = match rank {
            Rank::Base | Rank::Overlay => layers::read_file(index, &layer.text, renames, &mut sink),
            Rank::Sets => {
                let first = ranks.iter().position(|rank| *rank == Rank::Sets).unwrap_or_default();
                let set = &request.sets[usize::from(index) - first];
                layers::read_set(index, set, &layer.text, renames, &mut sink)
            }
        };
        if *rank == Rank::Base {
            headed = !read.root.schema.is_absent();
        }
        whole &= read.whole;
        root.merge(read.root);
    }
    too_old(&root, request, &layers)?;

    let mut missing = Vec::new();
    root.missing("", None, &mut missing);
    // What could not be parsed may hold what is missing.
    if whole {
        if !headed {
            let draft = Draft::error("the file does not say which schema it has").help("head it with `schema = 1`");
            sink.add(Place::whole(0), draft.suggest(format!("schema = {SCHEMA}")));
        }
        for missing in &missing {
            sink.add(missing.header.unwrap_or(Place::whole(0)), missing.draft());
        }
    }
    alternatives::settle(&mut root, &ranks, &mut sink);

    let missing: Vec<String> = missing.into_iter().map(|missing| missing.path).collect();
    let spec = specify(&root, request);
    for finding in contradictions::of(&root, &spec) {
        if let Some(place) = finding.place(&root, &missing, whole) {
            sink.add(place, finding.draft());
        }
    }
    judge(&root, &spec, &|finding| finding.place(&root, &missing, whole), &mut sink);
    if sink.has_errors() { Err(Faults(sink.into_faults())) } else { Ok((spec, sink.into_faults())) }
}

/// Files that are for a newer dbird can't be judged further: only that is said.
fn too_old(root: &Root, request: &Request<'_>, layers: &[layers::Layer]) -> Result<(), Faults> {
    let mut sink = Sink::new(layers);
    if let Entry::Set(version, origin) = root.schema
        && version > SCHEMA
    {
        let draft = Draft::error(format!("this file has schema {version}, and this dbird reads schema {SCHEMA}"));
        sink.add(origin.value, draft.help("use a newer dbird; nothing else was judged"));
    }
    if let Entry::Set(wanted, origin) = &root.project.keys.dbird
        && let Ok(requirement) = VersionReq::parse(wanted)
        && let Ok(mine) = Version::parse(request.dbird_version)
    {
        // A development version counts as the version that it leads to.
        let released = Version::new(mine.major, mine.minor, mine.patch);
        if !requirement.matches(&mine) && !requirement.matches(&released) {
            let draft = Draft::error(format!("this project wants dbird {wanted}, and this is dbird {mine}"));
            sink.add(origin.value, draft.help("use another dbird; nothing else was judged"));
        }
    }
    if sink.has_errors() { Err(Faults(sink.into_faults())) } else { Ok(()) }
}

/// Applies the policies, less what is waived.
fn judge(root: &Root, spec: &Spec, place: &dyn Fn(&Finding) -> Option<Place>, sink: &mut Sink<'_>) {
    let waivers = &root.policies.keys.waive;
    let mut used = vec![false; waivers.items.len()];
    let waives = |waiver: &Waiver, code: &str, key: &str| {
        let is = |entry: &Entry<String>, text: &str| entry.get().is_some_and(|t| t == text);
        is(&waiver.code, code) && is(&waiver.key, key)
    };
    for (policy, finding) in policy::check(spec) {
        let Some(place) = place(&finding) else { continue };
        let waiver = waivers.items.iter().position(|w| policy.waivable && waives(&w.keys, policy.code, &finding.key));
        match waiver {
            Some(index) => used[index] = true,
            None => {
                let draft = finding.draft();
                sink.add(place, Draft { code: Some(policy.code), severity: policy.severity, ..draft });
            }
        }
    }
    for (item, used) in waivers.items.iter().zip(used) {
        let (Some(code), Some(key)) = (item.keys.code.get(), item.keys.key.get()) else { continue };
        let Some(origin) = item.keys.code.origin() else { continue };
        match policy::explain(code) {
            None => {
                let codes: Vec<_> = policy::all().iter().filter(|p| p.waivable).map(|p| p.code.to_owned()).collect();
                let help = format!("these can be waived: {}", super::suggestions::one_of(&codes));
                sink.add(origin.value, Draft::error(format!("there is no policy {code}")).help(help));
            }
            Some(policy) if !policy.waivable => {
                let draft = Draft::error(format!("{code} can't be waived: {}", policy.title));
                sink.add(origin.value, draft.help(format!("`dbird explain {code}` says why")));
            }
            Some(policy) if !used && policy.applies(spec.cloud) => {
                let draft = Draft::warning(format!("{code} does not object to `{key}`, so nothing is waived here"));
                sink.add(origin.value, draft.help("remove the waiver"));
            }
            Some(_) => {}
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing test is what is wanted")]
mod tests {
    use super::*;
    use crate::{
        Cloud,
        environment::{Layer, Severity},
    };

    const RENAMES: &[Rename] = &[
        Rename { table: "rollout", old: "bake_time", new: "bake" },
        Rename { table: "", old: "app", new: "service" },
        Rename { table: "rollout.hooks.0", old: "command", new: "run" },
    ];

    fn resolved(text: &str) -> Result<(Spec, Vec<Fault>), Faults> {
        let base = Layer::new("base.toml", text);
        let cloud = Cloud::Aws;
        resolve(&Request { environment: "dev", cloud, base, overlay: None, sets: &[], dbird_version: "0.1.0" }, RENAMES)
    }

    #[test]
    fn a_renamed_key_is_accepted_with_a_warning_and_a_fix() {
        let text = "schema = 1\n[app]\nname = \"bird\"\nport = 80\n[rollout]\nbake_time = \"1m\"\n";
        let (spec, warnings) = resolved(text).unwrap();
        assert_eq!((spec.service.name.as_str(), spec.rollout.bake_ms), ("bird", 60_000));
        let told: Vec<_> = warnings.iter().map(|w| (w.severity, w.line, w.suggestion.as_deref())).collect();
        assert_eq!(told, [(Severity::Warning, 2, Some("service")), (Severity::Warning, 6, Some("bake"))]);
        assert_eq!(&text[warnings[1].span.clone()], "bake_time");
        assert_eq!(warnings[1].message, "`rollout.bake_time` is now called `bake`");
    }

    #[test]
    fn a_renamed_key_beside_its_new_name_is_a_fault() {
        let text = "schema = 1\n[service]\nname = \"bird\"\nport = 80\n[rollout]\nbake_time = \"1m\"\nbake = \"2m\"\n";
        let faults = resolved(text).unwrap_err();
        assert_eq!(
            faults.to_string(),
            "base.toml:6:1: error: `rollout.bake_time` is the old name of `bake`, and both are set"
        );
    }

    #[test]
    fn a_faulty_value_under_an_old_name_is_told_too() {
        let text = "schema = 1\n[service]\nname = \"bird\"\nport = 80\n[rollout]\nbake_time = 5\n";
        let faults = resolved(text).unwrap_err();
        assert_eq!((faults.0.len(), faults.errors()), (2, 1), "{faults}");
    }
}
