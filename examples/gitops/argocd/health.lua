-- What Argo CD shows as the health of an AgentService. Suspended: no pods because the specification says so, or paused by hand.
local health = {status = "Progressing", message = "the operator has not looked at this version yet"}

if obj.metadata.deletionTimestamp ~= nil then
  health.message = "it is being deleted"
  return health
end
local status = obj.status
if status == nil or status.conditions == nil or status.observedGeneration ~= obj.metadata.generation then
  return health
end

local conditions = {}
for _, condition in ipairs(status.conditions) do
  conditions[condition.type] = condition
end
local ready, stalled, reconciling = conditions.Ready, conditions.Stalled, conditions.Reconciling
if ready == nil then
  return health
end

health.message = ready.reason .. ": " .. (ready.message or "")
if stalled ~= nil and stalled.status == "True" then
  health.status = "Degraded"
elseif ready.reason == "Paused" or ready.reason == "Suspended" then
  health.status = "Suspended"
elseif ready.status == "True" and (reconciling == nil or reconciling.status ~= "True") then
  health.status = "Healthy"
end
return health
