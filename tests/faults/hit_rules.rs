//! Rules are changed while messages flow.

use super::rules::PLAIN;
use super::scene::Scene;
use super::seed::either;

#[test]
fn rules_are_changed_under_load() {
    let mut scene = Scene::new("rule_changed");
    scene.begin();
    let times = either(12, 200);
    for round in 0..times {
        scene.flow(150);
        for rule in PLAIN {
            // Another text, the same numbers.
            let sql = if round % 2 == 0 { rule.sql().replacen("SELECT ", "SELECT 1 AS more, ", 1) } else { rule.sql() };
            let definition = scene.definition(rule, &sql).to_string();
            scene.server.ask("PUT", &format!("/rules/{}", rule.id), &definition);
            scene.strikes += 1;
        }
    }
    scene.flow(300);
    scene.finish(&format!("each rule was changed {times} times"));
}
