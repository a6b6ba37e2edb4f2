//! The form of ids in paths, told once for every route in the OpenAPI document.

use utoipa::openapi::{
    OpenApi, Paths, RefOr,
    path::{Parameter, PathItem},
    schema::Schema,
};

use crate::schema;

/// Gives the parameter `id` of every path the form of the ids that its first part is about.
pub(crate) fn describe(document: &mut OpenApi) {
    let Paths { paths, .. } = &mut document.paths;
    for (path, item) in paths {
        let form = match path.split('/').nth(1) {
            Some("tasks") => schema::task_id(),
            Some("runs") => schema::run_id(),
            Some("agents") => schema::agent_id(),
            Some("system") => schema::process_name(),
            Some(_) | None => continue,
        };
        for parameter in
            parameters(item).filter(|parameter| matches!(&*parameter.name, "id" | "name"))
        {
            parameter.schema = Some(RefOr::T(Schema::Object(form.clone())));
        }
    }
}

fn parameters(item: &mut PathItem) -> impl Iterator<Item = &mut Parameter> {
    let operations = [&mut item.get, &mut item.post, &mut item.put, &mut item.patch];
    let parameters = operations.into_iter().flatten().filter_map(|one| one.parameters.as_mut());
    parameters.flatten().filter_map(|parameter| match parameter {
        RefOr::T(parameter) => Some(parameter),
        RefOr::Ref(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use crate::openapi::render_json;

    #[test]
    fn every_id_in_a_path_has_its_form() {
        let document: serde_json::Value = serde_json::from_str(&render_json().unwrap()).unwrap();
        let parameter = &document["paths"]["/tasks/{id}"]["get"]["parameters"][0];
        assert_eq!(parameter["schema"]["pattern"], "^task-[0-9a-f]{32}$");
        let parameter = &document["paths"]["/runs/{id}/events"]["get"]["parameters"][0];
        assert_eq!(parameter["schema"]["pattern"], "^run-[0-9a-f]{32}$");
    }
}
