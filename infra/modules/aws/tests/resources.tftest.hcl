# Against a provider that knows arguments and makes nothing: what there is, and what it says, but not whether AWS takes it.
mock_provider "aws" {}

variables {
  account_id     = "111122223333"
  region         = "eu-central-1"
  data_bucket    = "example-data"
  staging_bucket = "example-staging"
  repositories   = ["archive", "climate/era5"]
  memory_sizes   = [2048, 512]
  image_digest   = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
}

run "functions_wait_for_their_image" {
  variables {
    image_digest = null
    direct       = { memory = 1024 }
  }

  assert {
    condition     = length(aws_lambda_function.worker) == 0 && length(aws_lambda_function.direct) == 0
    error_message = "A function would be made of an image that is not there."
  }

  assert {
    condition     = aws_ecr_repository.this.name == "lithops_v380_azil/frazil" && aws_ecr_repository.this.image_tag_mutability == "IMMUTABLE"
    error_message = "There is nowhere to push the image to."
  }
}

run "functions_are_those_that_lithops_calls" {
  assert {
    condition = { for memory, function in aws_lambda_function.worker : memory => [function.function_name, function.memory_size] } == {
      "2048" = ["lithops-worker-azil-380-ecfdc3e848", 2048]
      "512"  = ["lithops-worker-azil-380-311f3b320f", 512]
    }
    error_message = "The functions are not those that Lithops calls."
  }

  assert {
    condition = alltrue([
      for function in aws_lambda_function.worker :
      function.image_config[0].command == tolist(["lambda_entry.lambda_handler"])
      && function.image_config[0].entry_point == tolist(["python", "-m", "awslambdaric"])
      && function.image_uri == "111122223333.dkr.ecr.eu-central-1.amazonaws.com/lithops_v380_azil/frazil@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
    ])
    error_message = "The functions do not start Lithops' entry point from the image."
  }

  assert {
    condition     = alltrue([for config in aws_lambda_function_event_invoke_config.worker : config.maximum_retry_attempts == 0])
    error_message = "Lambda would call twice more."
  }

  assert {
    condition     = length(aws_lambda_function_event_invoke_config.worker) == 2
    error_message = "A function has no say in its retries."
  }

  assert {
    condition     = toset([for one in aws_s3_object.metadata : one.key]) == toset(values(module.policy.metadata_keys))
    error_message = "Lithops would not find the runtime's metadata, and make the functions itself."
  }

  assert {
    condition     = toset([for one in aws_cloudwatch_log_group.this : one.name]) == toset([for name in values(module.policy.function_names) : "/aws/lambda/${name}"])
    error_message = "A function has no log to write to."
  }
}

run "data_never_expires_and_runs_do" {
  assert {
    condition     = toset([for rule in aws_s3_bucket_lifecycle_configuration.data.rule : rule.filter[0].prefix if anytrue([for one in rule.expiration : coalesce(one.days, 0) > 0])]) == toset(["archive.frazil/", "climate/era5.frazil/"])
    error_message = "Something else than run directories would expire."
  }

  assert {
    condition     = toset([for rule in aws_s3_bucket_lifecycle_configuration.staging.rule : rule.filter[0].prefix if anytrue([for one in rule.expiration : coalesce(one.days, 0) > 0])]) == toset(["lithops.jobs/"])
    error_message = "Something else than calls and results would expire in staging."
  }

  assert {
    condition     = { for bucket, one in aws_s3_bucket_versioning.this : bucket => one.versioning_configuration[0].status } == { data = "Enabled", staging = "Enabled" }
    error_message = "What is overwritten in a bucket would be lost."
  }

  assert {
    condition = {
      for bucket, rules in { data = aws_s3_bucket_lifecycle_configuration.data.rule, staging = aws_s3_bucket_lifecycle_configuration.staging.rule } :
      bucket => flatten([for rule in rules : [for one in rule.noncurrent_version_expiration : one.noncurrent_days]])
    } == { data = [14], staging = [7] }
    error_message = "Versions would be kept for ever, or not at all."
  }

  # Runs and calls expire by days, which takes such markers away, too.
  assert {
    condition     = one(flatten([for rule in aws_s3_bucket_lifecycle_configuration.data.rule : [for one in rule.expiration : one.expired_object_delete_marker if coalesce(one.days, 0) == 0]]))
    error_message = "Whatever garbage collection deletes would leave a marker for ever, and lists of the repository grow slow."
  }

  assert {
    condition     = alltrue([for bucket in aws_s3_bucket.this : bucket.force_destroy == false])
    error_message = "Terraform would delete a bucket with what lies in it."
  }

  assert {
    condition = alltrue([
      for block in aws_s3_bucket_public_access_block.this :
      block.block_public_acls && block.block_public_policy && block.ignore_public_acls && block.restrict_public_buckets
    ]) && length(aws_s3_bucket_public_access_block.this) == 2
    error_message = "A bucket could be made public."
  }
}

run "there_are_no_roles_that_nobody_needs" {
  assert {
    condition     = toset(keys(aws_iam_role.this)) == toset(["worker", "client", "deployer", "maintenance"])
    error_message = "There are other roles: ${jsonencode(keys(aws_iam_role.this))}."
  }

  assert {
    condition     = length(aws_iam_openid_connect_provider.github) == 0
    error_message = "GitHub's tokens are accepted, and nobody asked for it."
  }
}

run "github_may_plan_and_apply" {
  variables {
    github = { repository = "owner/name", branch = "main", environment = "production" }
  }

  assert {
    condition     = aws_iam_role.this["ci-plan"].name == "frazil-ci-plan" && aws_iam_role.this["ci-apply"].name == "frazil-ci-apply"
    error_message = "CI has no roles."
  }

  assert {
    condition     = aws_iam_openid_connect_provider.github[0].client_id_list == toset(["sts.amazonaws.com"])
    error_message = "GitHub's tokens are accepted for another audience."
  }
}

run "github_providers_are_made_once" {
  variables {
    github                 = { repository = "owner/name", branch = "main", environment = "production" }
    create_github_provider = false
  }

  assert {
    condition     = length(aws_iam_openid_connect_provider.github) == 0
    error_message = "The provider that is there already would be made again."
  }
}

run "plans_are_run_without_a_client" {
  variables {
    direct        = { memory = 1024, tasks_at_once = 8 }
    run_put_plans = true
    schedule      = { expression = "cron(0 6 * * ? *)", plan = "nightly.json" }
  }

  assert {
    condition     = jsondecode(aws_sfn_state_machine.run[0].definition).States.Write.MaxConcurrency == 8
    error_message = "The state machine writes another number of tasks at once."
  }

  assert {
    condition     = jsondecode(aws_sfn_state_machine.run[0].definition).States.Start.Parameters.FunctionName == "frazil-direct"
    error_message = "The state machine calls another function."
  }

  assert {
    condition     = aws_lambda_function.direct[0].image_config[0].command == tolist(["frazil_functions.handler.handle"])
    error_message = "The function does not take plain events."
  }

  assert {
    condition     = aws_lambda_event_source_mapping.events[0].batch_size == 1 && aws_lambda_event_source_mapping.events[0].function_response_types == toset(["ReportBatchItemFailures"])
    error_message = "A message that failed would take others with it."
  }

  assert {
    condition     = aws_sqs_queue.events[0].visibility_timeout_seconds > aws_lambda_function.direct[0].timeout
    error_message = "A message would be given out while it is worked on."
  }

  assert {
    condition     = jsondecode(aws_cloudwatch_event_rule.plans[0].event_pattern).detail.object.key[0].wildcard == "plans/*.json" && aws_s3_bucket_notification.data[0].eventbridge
    error_message = "A plan that is put into the bucket is not noticed."
  }

  assert {
    condition = (
      jsondecode(replace(aws_cloudwatch_event_target.schedule[0].input_transformer[0].input_template, "<id>", "abc"))
      == { plan = "s3://example-data/plans/nightly.json", run_id = "abc" }
    )
    error_message = "The schedule gives the state machine something else."
  }

  assert {
    condition = (
      jsondecode(replace(replace(replace(aws_cloudwatch_event_target.plans[0].input_transformer[0].input_template, "<bucket>", "b"), "<key>", "plans/k.json"), "<etag>", "e"))
      == { plan = "s3://b/plans/k.json", run_id = "e" }
    )
    error_message = "A plan that was put gives the state machine something else."
  }
}

run "a_state_machine_calls_lambda_in_its_own_partition" {
  variables {
    partition = "aws-us-gov"
    region    = "us-gov-west-1"
    direct    = { memory = 1024 }
  }

  assert {
    condition = toset(flatten([
      for states in [jsondecode(aws_sfn_state_machine.run[0].definition).States] :
      [states.Start.Resource, states.Write.ItemProcessor.States.WriteTask.Resource, states.Finish.Resource]
    ])) == toset(["arn:aws-us-gov:states:::lambda:invoke"])
    error_message = "Step Functions would know no such integration."
  }
}

run "somebody_is_told" {
  variables {
    alarm_email = "somebody@example.org"
    budget      = { dollars = 100, email = "somebody@example.org" }
  }

  assert {
    condition     = length(aws_cloudwatch_metric_alarm.function) == 6 && alltrue([for alarm in aws_cloudwatch_metric_alarm.function : length(alarm.alarm_actions) == 1])
    error_message = "An alarm is missing, or tells nobody."
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.function["2048-duration"].threshold == 810000
    error_message = "The alarm of the timeout is not at nine tenths of it, in milliseconds."
  }

  assert {
    condition     = length(aws_budgets_budget.account[0].notification) == 2
    error_message = "The budget tells nobody."
  }
}

run "a_dead_image_is_refused" {
  command = plan
  variables {
    image_digest = "frazil:latest"
  }
  expect_failures = [var.image_digest]
}

run "an_unknown_processor_is_refused" {
  command = plan
  variables {
    architecture = "amd64"
  }
  expect_failures = [var.architecture]
}

run "too_little_storage_is_refused" {
  command = plan
  variables {
    ephemeral_storage = 511
  }
  expect_failures = [var.ephemeral_storage]
}

run "a_negative_concurrency_is_refused" {
  command = plan
  variables {
    reserved_concurrency = -2
  }
  expect_failures = [var.reserved_concurrency]
}

run "an_event_that_is_kept_too_short_is_refused" {
  command = plan
  variables {
    event_age = 59
  }
  expect_failures = [var.event_age]
}

run "results_that_are_never_kept_are_refused" {
  command = plan
  variables {
    jobs_days = 0
  }
  expect_failures = [var.jobs_days]
}

run "runs_that_expire_while_they_can_be_resumed_are_refused" {
  command = plan
  variables {
    runs_days = 30
  }
  expect_failures = [var.runs_days]
}

run "versions_that_are_never_kept_are_refused" {
  command = plan
  variables {
    deleted_days = 0
  }
  expect_failures = [var.deleted_days]
}

run "an_odd_retention_is_refused" {
  command = plan
  variables {
    log_days = 31
  }
  expect_failures = [var.log_days]
}

run "an_address_that_is_none_is_refused" {
  command = plan
  variables {
    alarm_email = "somebody"
  }
  expect_failures = [var.alarm_email]
}

run "a_budget_of_nothing_is_refused" {
  command = plan
  variables {
    budget = { dollars = 0, email = "somebody@example.org" }
  }
  expect_failures = [var.budget]
}

run "a_budget_that_tells_nobody_is_refused" {
  command = plan
  variables {
    budget = { dollars = 10, email = "" }
  }
  expect_failures = [var.budget]
}

run "a_direct_function_without_memory_is_refused" {
  command = plan
  variables {
    direct = { memory = 64 }
  }
  expect_failures = [var.direct]
}

run "more_tasks_at_once_than_a_map_runs_are_refused" {
  command = plan
  variables {
    direct = { memory = 1024, tasks_at_once = 41 }
  }
  expect_failures = [var.direct]
}

run "plans_that_nothing_runs_are_refused" {
  command = plan
  variables {
    run_put_plans = true
  }
  expect_failures = [var.run_put_plans]
}

run "a_schedule_that_nothing_runs_is_refused" {
  command = plan
  variables {
    schedule = { expression = "rate(1 day)", plan = "nightly.json" }
  }
  expect_failures = [var.schedule]
}

run "a_schedule_in_another_language_is_refused" {
  command = plan
  variables {
    direct   = { memory = 1024 }
    schedule = { expression = "0 6 * * *", plan = "nightly.json" }
  }
  expect_failures = [var.schedule]
}

run "a_scheduled_plan_somewhere_else_is_refused" {
  command = plan
  variables {
    direct   = { memory = 1024 }
    schedule = { expression = "rate(1 day)", plan = "s3://example-data/plans/nightly.json" }
  }
  expect_failures = [var.schedule]
}
