# Statements, each said once, from which roles are put together in documents.tf.
#
# The identity policies hold no Deny and hardly a condition: what is not allowed is refused, and what is allowed can
# be enforced by a server that does not evaluate conditions. What needs a condition stands in the buckets' policies.
#
# s3:ListBucket is never bound to a prefix. Without it S3 answers 403 in place of 404 for an object that is not there, and
# Icechunk, Lithops and run directories all ask for objects that need not be there.
locals {
  objects    = { for repository in var.repositories : repository => "${local.data}/${repository}" }
  all_of     = [for repository in var.repositories : "${local.objects[repository]}/*"]
  all_runs   = [for prefix in local.run_prefixes : "${local.data}/${prefix}*"]
  source_arn = [for one in var.sources : one.prefix == "" ? "${local.s3}${one.bucket}/*" : "${local.s3}${one.bucket}/${one.prefix}/*"]

  read_sources = length(var.sources) == 0 ? [] : [
    { Sid = "ReadSourceFiles", Effect = "Allow", Action = ["s3:GetObject"], Resource = local.source_arn },
  ]
  list_sources = length(var.sources) == 0 ? [] : [
    { Sid = "ListSourceFiles", Effect = "Allow", Action = ["s3:ListBucket"], Resource = distinct([for one in var.sources : "${local.s3}${one.bucket}"]) },
  ]

  # What a function needs that is handed a fork: it refers to a snapshot, and so on to manifests and chunks. Not the
  # object `repo`, which says where branches are, nor anything that a commit consists of.
  write_chunks = [
    {
      Sid      = "ReadWhatForksReferTo", Effect = "Allow", Action = ["s3:GetObject"]
      Resource = flatten([for one in values(local.objects) : ["${one}/snapshots/*", "${one}/manifests/*", "${one}/chunks/*"]])
    },
    {
      Sid      = "WriteChunksAndNothingElse", Effect = "Allow", Action = ["s3:PutObject", "s3:AbortMultipartUpload"]
      Resource = [for one in values(local.objects) : "${one}/chunks/*"]
    },
    { Sid = "ReadItsRun", Effect = "Allow", Action = ["s3:GetObject"], Resource = local.all_runs },
    {
      Sid      = "PutReceipts", Effect = "Allow", Action = ["s3:PutObject"]
      Resource = [for prefix in local.run_prefixes : "${local.data}/${prefix}*/receipts/*"]
    },
  ]

  list_data = [{ Sid = "ListDataAndTellAbsentFromRefused", Effect = "Allow", Action = ["s3:ListBucket"], Resource = [local.data] }]
  read_data = [{ Sid = "ReadRepositoriesAndRuns", Effect = "Allow", Action = ["s3:GetObject"], Resource = concat(local.all_of, local.all_runs) }]

  # All that convert, apply, resume, append and publish do: repositories only grow, and runs are cleared.
  drive_runs = concat(local.list_data, local.read_data, [
    {
      Sid      = "CommitAndPublish", Effect = "Allow", Action = ["s3:PutObject", "s3:AbortMultipartUpload"]
      Resource = local.all_of
    },
    { Sid = "KeepAndClearRuns", Effect = "Allow", Action = ["s3:PutObject", "s3:DeleteObject"], Resource = local.all_runs },
  ])

  list_staging = [{ Sid = "ListStagingAndTellAbsentFromRefused", Effect = "Allow", Action = ["s3:ListBucket"], Resource = [local.staging] }]
  answer_calls = concat(local.list_staging, [
    { Sid = "TakeCallsAndAnswer", Effect = "Allow", Action = ["s3:GetObject", "s3:PutObject"], Resource = ["${local.staging}/lithops.jobs/*"] },
  ])
  make_calls = concat(local.list_staging, [
    {
      Sid      = "MakeCallsAndClearThem", Effect = "Allow", Action = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]
      Resource = ["${local.staging}/lithops.jobs/*"]
    },
    { Sid = "AdoptTheRuntime", Effect = "Allow", Action = ["s3:GetObject"], Resource = ["${local.staging}/lithops.runtimes/*"] },
    { Sid = "InvokeWorkers", Effect = "Allow", Action = ["lambda:InvokeFunction"], Resource = values(local.function_arns) },
  ])

  report_failures = [{ Sid = "KeepCallsThatFailed", Effect = "Allow", Action = ["sqs:SendMessage"], Resource = [local.queue_arns[local.failed_queue]] }]

  read_plans = [{ Sid = "ReadPlans", Effect = "Allow", Action = ["s3:GetObject"], Resource = ["${local.data}/${var.plans}/*"] }]
  put_plans  = [{ Sid = "PutPlans", Effect = "Allow", Action = ["s3:GetObject", "s3:PutObject"], Resource = ["${local.data}/${var.plans}/*"] }]

  client = concat(local.drive_runs, local.make_calls, local.read_sources, local.list_sources, local.put_plans)
}

# What each role may do.
locals {
  statements = {
    worker = concat(local.write_chunks, local.read_sources, local.answer_calls, local.report_failures, [
      {
        Sid      = "WriteItsLog", Effect = "Allow", Action = ["logs:CreateLogStream", "logs:PutLogEvents"]
        Resource = [for function in values(local.function_names) : "arn:${var.partition}:logs:${local.here}:log-group:/aws/lambda/${function}:*"]
      },
    ])

    # One function for the four plain events, which start, write and finish runs without a client.
    direct = concat(local.drive_runs, local.read_sources, local.list_sources, local.read_plans, local.report_failures, [
      {
        Sid      = "WriteItsLog", Effect = "Allow", Action = ["logs:CreateLogStream", "logs:PutLogEvents"]
        Resource = ["arn:${var.partition}:logs:${local.here}:log-group:/aws/lambda/${local.direct_function}:*"]
      },
      {
        Sid      = "TakeEventsFromTheQueue", Effect = "Allow"
        Action   = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ChangeMessageVisibility"]
        Resource = [local.queue_arns[local.events_queue]]
      },
    ])

    client = local.client

    # It calls the function once, through Lithops, to ask for its versions.
    deployer = concat(local.make_calls, [
      # ECR's token is given for a whole registry or not at all.
      { Sid = "LogInToTheRegistry", Effect = "Allow", Action = ["ecr:GetAuthorizationToken"], Resource = ["*"] },
      {
        Sid = "PushTheImage", Effect = "Allow"
        Action = [
          "ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:CompleteLayerUpload", "ecr:DescribeImages",
          "ecr:DescribeRepositories", "ecr:GetDownloadUrlForLayer", "ecr:GetRepositoryPolicy", "ecr:InitiateLayerUpload",
          "ecr:PutImage", "ecr:UploadLayerPart",
        ]
        Resource = [local.image_arn]
      },
      {
        Sid = "MakeAndUpdateWorkers", Effect = "Allow"
        Action = [
          "lambda:CreateFunction", "lambda:GetFunction", "lambda:GetFunctionConfiguration", "lambda:GetFunctionEventInvokeConfig",
          "lambda:ListTags", "lambda:PutFunctionEventInvokeConfig", "lambda:TagResource", "lambda:UpdateFunctionCode",
          "lambda:UpdateFunctionConfiguration", "lambda:UpdateFunctionEventInvokeConfig",
        ]
        Resource = values(local.function_arns)
      },
      {
        Sid       = "GiveWorkersTheirRole", Effect = "Allow", Action = ["iam:PassRole"], Resource = [local.role_arns["worker"]]
        Condition = { StringEquals = { "iam:PassedToService" = "lambda.amazonaws.com" } }
      },
      {
        Sid      = "PutTheRuntimesMetadata", Effect = "Allow", Action = ["s3:PutObject"]
        Resource = [for key in values(local.metadata_keys) : "${local.staging}/${key}"]
      },
    ])

    # The only one that may delete anything of a repository.
    maintenance = concat(local.list_data, local.read_data, [
      {
        Sid      = "CollectGarbage", Effect = "Allow", Action = ["s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
        Resource = concat(local.all_of, local.all_runs)
      },
    ])

    # The state machine, and what starts it: an object that was put below `plans`, or a schedule.
    states = [{ Sid = "InvokeTheDirectFunction", Effect = "Allow", Action = ["lambda:InvokeFunction"], Resource = [local.direct_arn] }]
    events = [{ Sid = "StartTheStateMachine", Effect = "Allow", Action = ["states:StartExecution"], Resource = [local.machine_arn] }]

    ci-plan  = concat(local.list_data, local.read_data, local.read_sources, local.list_sources)
    ci-apply = local.client
  }
}
