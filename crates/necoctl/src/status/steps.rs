//! The names of the steps, from the recipe of the package that is installed here.

use std::path::Path;

use neco_plan::View;
use neco_schema::RecipeDigest;

use crate::recipe;

/// How many steps there are and what they are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepNames {
    digest: RecipeDigest,
    names: Vec<String>,
}

impl StepNames {
    /// Reads the recipe below `root`. Without one that can be read, steps are shown by their numbers alone.
    pub fn read(root: &Path) -> Option<Self> {
        let recipe = recipe::installed(root)?;
        let names = recipe.steps().map(|(_, step)| step.name.to_string()).collect();
        Some(Self { digest: recipe.digest().clone(), names })
    }

    /// These names, unless the members follow another recipe than the one that is installed here.
    pub fn for_view(&self, view: &View) -> Option<&Self> {
        let Some(request) = view.current() else { return Some(self) };
        let id = request.id();
        let mut plans = view.plans.values().filter(|plan| plan.value.request == id);
        plans.all(|plan| plan.value.recipe == self.digest).then_some(self)
    }

    /// How many steps there are.
    pub fn count(&self) -> u32 {
        u32::try_from(self.names.len()).unwrap_or(u32::MAX)
    }

    /// The name of step `number`, counted from 1.
    pub fn name(&self, number: u32) -> Option<&str> {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        self.names.get(index).map(String::as_str)
    }
}
